from airgap.progress import Progress


def test_the_base_listener_takes_everything_and_says_nothing(capsys):
    progress = Progress()
    progress.begin("blobs", 3, 100)
    progress.advance(10)
    progress.done("sha256:0", "sent")
    progress.warn("a tag moved")
    progress.debug("HEAD 200")
    progress.end()
    assert capsys.readouterr() == ("", "")


def test_a_subclass_needs_to_say_only_what_it_cares_for():
    class Lines(Progress):
        def __init__(self):
            self.seen = []

        def done(self, item, note=""):
            self.seen.append(f"{item} {note}".strip())

    lines = Lines()
    lines.begin("blobs", 2)
    lines.done("a", "mounted")
    lines.done("b")
    assert lines.seen == ["a mounted", "b"]
