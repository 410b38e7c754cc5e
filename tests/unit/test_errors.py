import pytest

from airgap import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AirgapError, 1),
        (errors.DiskError, 1),
        (errors.ConfigurationError, 2),
        (errors.ToolError, 2),
        (errors.NetworkError, 3),
        (errors.TLSError, 3),
        (errors.UnauthorizedError, 3),
        (errors.NotFoundError, 3),
        (errors.RegistryError, 3),
        (errors.IntegrityError, 4),
        (errors.BundleError, 4),
        (errors.NotClosedError, 5),
        (errors.ClusterError, 6),
    ],
)
def test_each_branch_has_the_exit_code_of_the_contract(kind, code):
    assert kind("the registry said no").exit_code == code
    assert issubclass(kind, errors.AirgapError)


def test_every_error_class_stands_in_the_tree_of_the_docstring():
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert [name for name in classes if name not in errors.__doc__] == []


def test_an_error_is_a_sentence_with_a_next_step():
    error = errors.DiskError("no room on /mnt", hint="free 3 GB")
    assert (str(error), error.message, error.hint) == ("no room on /mnt", "no room on /mnt", "free 3 GB")
    assert errors.DiskError("no room").hint == ""


def test_a_registry_error_carries_status_and_code():
    error = errors.RegistryError("refused", hint="make the project", status=404, code="NAME_UNKNOWN")
    assert (error.status, error.code, error.hint) == (404, "NAME_UNKNOWN", "make the project")
    assert (errors.RegistryError("refused").status, errors.RegistryError("refused").code) == (0, "")
