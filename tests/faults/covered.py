"""The table's third part: faults that a proxy before a registry cannot play, with the tests that play them."""

from __future__ import annotations

from tests.faults.rows import Covered

TLS = PROXY = AUTH = HELPERS = "transport::"
WRITER = READER = VERIFY = ROOM = "bundle::"
UPSTREAM = SITE = HURT = BROKEN = "e2e::"
CHART = VALUES = TOOLS = REF = "unit::"
SCRIPTED, SESSIONS, KILLED, DELTA, SETS = "registry::", "engine::", "engine::", "delta::", "volumes::"

COVERED = (
    Covered(
        "F2",
        "the registry is restarted in the middle",
        ("registry::test_a_registry_that_is_restarted_is_waited_for",),
    ),
    Covered(
        "F5",
        "kill -9 between and inside of PATCHes, and another run",
        (
            f"{KILLED}test_a_push_that_is_killed_goes_on_where_it_was",
            f"{BROKEN}test_an_interrupted_push_has_left_no_tag_and_the_next_one_sends_what_is_missing",
            f"{SESSIONS}test_another_run_goes_on_with_the_session_of_the_first",
        ),
    ),
    Covered("F10", "Location from https to http", (f"{SCRIPTED}test_an_upload_is_not_sent_to_another_place",)),
    Covered(
        "F21",
        "no chunked coding in what is sent: looked for in every row",
        ("transport::test_an_upload_is_sent_with_its_length_in_pieces",),
    ),
    Covered(
        "F31",
        "a manifest of 100 MB; JSON that is nested too deep",
        (f"{SCRIPTED}test_a_manifest_of_a_hundred_megabytes_is_not_read", f"{READER}test_a_lock_that_is_none_is_refused"),
    ),
    Covered(
        "F32",
        "redirects: five at most, no downgrade, no Authorization, no netrc",
        (
            "transport::test_redirects_end_after_five",
            "transport::test_a_redirect_from_tls_to_plain_http_is_refused_without_asking_there",
            "transport::test_a_signed_url_elsewhere_gets_no_authorization_and_is_not_shown",
        ),
    ),
    Covered(
        "F34",
        "no name, nobody listens, nobody answers",
        (
            "transport::test_a_name_that_does_not_resolve_is_said_to",
            "transport::test_a_port_where_nobody_listens_is_named",
            "faults::test_a_black_hole_is_not_waited_for",
            f"{SITE}test_a_registry_that_does_not_listen_is_named",
        ),
    ),
    Covered(
        "F35",
        "certificates: authority, name, dates, client's",
        tuple(
            f"{TLS}{it}"
            for it in (
                "test_an_unknown_authority_is_refused_with_the_flag_that_helps",
                "test_a_wrong_name_is_told_with_the_names_in_the_certificate",
                "test_an_expired_certificate_is_told_with_both_clocks",
                "test_a_certificate_of_tomorrow_is_told_with_both_clocks",
                "test_a_server_that_wants_a_client_certificate_says_so_and_is_satisfied_with_one",
                "test_nothing_is_asked_of_a_server_whose_certificate_is_refused",
            )
        ),
    ),
    Covered(
        "F36",
        "a proxy that answers 407, 403, nothing to CONNECT, is not there; NO_PROXY",
        (
            f"{PROXY}test_a_proxy_that_wants_a_password_is_named_without_the_one_it_got",
            f"{PROXY}test_a_proxy_that_does_not_let_us_through_is_named_and_not_the_registry",
            f"{PROXY}test_a_proxy_that_is_not_there_is_named",
            f"{PROXY}test_no_proxy_covers",
            "faults::test_a_proxy_that_never_answers_connect_is_not_waited_for",
        ),
    ),
    Covered(
        "F37",
        "where a token realm may lie",
        (
            f"{AUTH}test_a_realm_is_judged_before_anything_goes_there",
            f"{AUTH}test_credentials_do_not_go_to_a_realm_by_plain_http",
        ),
    ),
    Covered(
        "F38",
        "no room: before, meanwhile, by limit, on FAT",
        (
            f"{WRITER}test_a_disk_that_is_too_small_is_found_out_before_the_first_byte",
            f"{WRITER}test_a_disk_that_fills_up_meanwhile_is_a_sentence_and_the_run_can_be_repeated",
            f"{WRITER}test_a_limit_that_shows_while_writing_keeps_the_journal",
            f"{ROOM}test_a_bundle_of_four_gibibytes_is_refused_on_fat",
            f"{UPSTREAM}test_a_full_disk_is_told_before_the_first_byte",
        ),
    ),
    Covered(
        "F39",
        "the medium cannot be read",
        (
            f"{READER}test_a_medium_that_fails_says_where",
            "engine::test_a_bundle_that_gets_shorter_in_the_middle_of_a_push_is_named",
            "engine::test_a_disk_that_fails_in_the_middle_of_a_push_is_named_with_the_byte",
            "engine::test_a_disk_that_fails_is_named_where_the_kernel_sends_from_it_too",
        ),
    ),
    Covered(
        "F40",
        "two runs on one output, on one target",
        (
            f"{WRITER}test_two_runs_on_the_same_output_are_refused_and_the_holder_is_named",
            f"{WRITER}test_the_lock_of_a_dead_run_is_taken_over",
            f"{BROKEN}test_two_runs_on_the_same_bundle_are_not_both_let_in",
            f"{SESSIONS}test_a_second_run_waits_for_the_first_and_then_says_who_it_is",
        ),
    ),
    Covered(
        "F41",
        "kill -9 at every stage of writing",
        (
            f"{WRITER}test_killed_at_any_stage_the_next_run_finishes",
            f"{BROKEN}test_after_kill_9_the_same_command_finishes_and_fetches_no_finished_blob_again",
            f"{KILLED}test_what_was_written_and_never_reached_the_disk_is_fetched_again",
        ),
    ),
    Covered(
        "F42",
        "where nothing can be written",
        (f"{WRITER}test_an_output_where_nothing_can_be_written_is_a_plain_sentence",),
        "NFS and CIFS themselves",
    ),
    Covered(
        "F43",
        "cut at any place",
        (
            f"{READER}test_a_truncated_file_is_recognised_and_says_how_much_is_missing",
            f"{HURT}test_a_truncated_bundle_is_told_with_the_bytes_that_are_missing",
            "faults::test_a_bundle_that_is_cut_anywhere_is_refused",
        ),
    ),
    Covered(
        "F44",
        "any bit flipped",
        (
            f"{VERIFY}test_every_flipped_bit_is_found",
            f"{HURT}test_push_of_a_flipped_bit_stops_with_the_digest_and_tags_nothing_that_has_it",
            "faults::test_a_bundle_that_was_changed_anyhow_is_never_taken_for_whole",
        ),
    ),
    Covered(
        "F45",
        "hostile members",
        (
            f"{READER}test_a_hostile_member_is_refused_and_never_unpacked",
            f"{READER}test_a_hostile_head_is_refused_before_the_lock_is_believed",
            f"{HURT}test_a_hostile_member_is_refused_and_lands_nowhere",
            "faults::test_a_header_that_was_changed_is_refused",
        ),
    ),
    Covered(
        "F46",
        "sizes and manifests that contradict themselves",
        (
            f"{VERIFY}test_a_lock_that_does_not_fit_its_manifests_is_found_by_verify_and_refused_by_the_writer",
            f"{READER}test_an_ambiguous_manifest_is_refused_when_it_is_read",
        ),
    ),
    Covered(
        "F47",
        "an index in an index; a blob twice",
        (
            "bundle::test_every_blob_of_the_lock_has_exactly_one_place",
            "fetch::test_each_blob_is_fetched_once_though_several_images_have_it",
            "resolve::test_indexes_in_each_other_fifty_deep_are_refused",
            "resolve::test_an_index_that_lists_each_child_twice_is_walked_once",
        ),
    ),
    Covered(
        "F48",
        "volumes: missing, swapped, stale, short, one too many",
        tuple(
            f"{SETS}{it}"
            for it in (
                "test_a_missing_volume_is_named",
                "test_swapped_names_do_no_harm_because_labels_count",
                "test_a_stale_volume_of_another_build_is_named_with_its_bundle",
                "test_a_cut_volume_is_named",
                "test_leftovers_of_a_longer_bundle_are_no_part_of_this_one",
            )
        ),
    ),
    Covered("F49", "a delta without its base", (f"{DELTA}test_a_base_that_has_lost_a_blob_is_refused_before_the_first_byte",)),
    Covered(
        "F50",
        "signatures: absent, by another key, over another lock, a key that anybody may write",
        (
            "delta::test_a_signed_bundle_is_taken_by_its_key_and_by_no_other",
            "delta::test_a_bundle_without_its_signature_or_with_another_s_is_refused",
            "delta::test_one_signature_speaks_for_every_volume_by_itself",
            "delta::test_an_inventory_is_signed_inside_and_asked_for_outside",
            f"{TOOLS}test_a_key_that_anybody_may_write_is_not_used",
            f"{TOOLS}test_no_bit_of_a_signature_can_be_flipped",
        ),
        "an older bundle with a good signature is installed like any other",
    ),
    Covered(
        "F51",
        "planted secrets",
        (
            "e2e::test_no_planted_secret_is_said_or_written_outside",
            "e2e::test_no_planted_secret_is_said_or_written_inside_but_in_secrets",
        ),
    ),
    Covered(
        "F52",
        "credential helpers that misbehave",
        tuple(
            f"{HELPERS}{it}"
            for it in (
                "test_a_missing_helper_is_a_warning_and_the_file_is_asked",
                "test_a_helper_that_hangs_is_ended_with_its_children",
                "test_a_helper_that_fails_is_a_warning_without_its_words",
                "test_a_helper_whose_name_is_none_is_not_run",
            )
        ),
    ),
    Covered(
        "F53",
        "hostile charts and values",
        (
            f"{CHART}test_members_that_would_leave_the_folder_are_refused",
            f"{CHART}test_links_and_devices_are_refused",
            f"{CHART}test_a_decompression_bomb_ends_at_the_limit",
            f"{CHART}test_too_many_files_are_refused",
            f"{VALUES}test_an_alias_bomb_is_refused_quickly",
            f"{TOOLS}test_control_characters_of_a_chart_do_not_reach_the_terminal",
        ),
    ),
    Covered(
        "F54",
        "hostile channel answers",
        (
            f"{UPSTREAM}test_a_channel_that_answers_nonsense_is_told",
            f"{TOOLS}test_a_release_name_cannot_become_a_flag",
            "sources::test_a_channel_that_moved_to_another_host_is_followed_without_the_licence",
            "sources::test_a_channel_that_leads_to_where_nobody_goes_is_refused_at_once",
            "sources::test_a_spec_without_an_end_is_cut",
            "sources::test_a_chart_that_a_spec_names_at_no_web_address_is_refused_before_anything_is_run",
        ),
    ),
    Covered(
        "F55",
        "a chart that never ends; what the user has set for helm",
        (
            f"{TOOLS}test_a_template_that_never_ends_is_ended",
            f"{TOOLS}test_a_template_that_eats_memory_is_ended",
            f"{TOOLS}test_what_the_user_has_set_for_helm_takes_no_part",
        ),
    ),
    Covered(
        "F56",
        "names that are none",
        (f"{REF}test_what_is_none_is_refused_with_the_reason", f"{SCRIPTED}test_tags_that_are_none_are_refused"),
    ),
    Covered(
        "F57",
        "signals and closed pipes",
        (
            f"{BROKEN}test_a_signal_ends_mirror_with_its_code_and_the_same_command_finishes",
            f"{BROKEN}test_an_interrupted_push_has_left_no_tag_and_the_next_one_sends_what_is_missing",
            "faults::test_a_second_signal_ends_the_command_at_once_though_the_registry_says_nothing",
            f"{BROKEN}test_whoever_reads_only_the_beginning_of_what_is_printed_sees_no_error",
        ),
    ),
)
