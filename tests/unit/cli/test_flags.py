from vmkit.cli.flags import split_flags


def test_flags_may_stand_anywhere() -> None:
    flags, rest = split_flags(["list", "--json", "-q"])

    assert flags.json
    assert flags.quiet
    assert rest == ["list"]


def test_flags_after_two_hyphens_belong_to_the_guest() -> None:
    flags, rest = split_flags(["shell", "a", "--", "ls", "--json"])

    assert not flags.json
    assert rest == ["shell", "a", "--", "ls", "--json"]


def test_flags_after_the_name_belong_to_the_guests_command_without_hyphens_too() -> None:
    flags, rest = split_flags(["exec", "-v", "a", "grep", "-q", "x"])

    assert flags.verbose
    assert not flags.quiet
    assert rest == ["exec", "a", "grep", "-q", "x"]


def test_a_command_without_a_name_leaves_room_for_the_default_machine() -> None:
    _, rest = split_flags(["exec", "--", "ls"])

    assert rest == ["exec", "", "--", "ls"]


def test_other_commands_take_flags_after_their_arguments() -> None:
    flags, rest = split_flags(["delete", "a", "b", "--yes"])

    assert flags.yes
    assert rest == ["delete", "a", "b"]
