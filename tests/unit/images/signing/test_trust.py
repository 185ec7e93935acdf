"""The trust files are OpenSSH's, hold only what vmkit writes, and change whole or not at all."""

import datetime as dt

import pytest

from tests.unit.images.signing.test_sshkey import FINGERPRINT, LINE, line
from vmkit.errors import NotFound, Refused, UsageError, WrongState
from vmkit.images.signing.sshkey import parse_public_key
from vmkit.images.signing.trust import TrustStore, read_public_key

KEY = parse_public_key(LINE.encode(), what="it")
OTHER = parse_public_key(line("ssh-ed25519", b"k" * 32), what="it")
UNTIL = dt.datetime(2027, 1, 31, 23, 59, 59, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path):
    return TrustStore(tmp_path / "trust")


def test_nobody_is_trusted_at_first_and_asking_writes_nothing(store):
    assert store.load().allowed == ()
    assert not store.folder.exists()


def test_the_file_is_an_allowed_signers_file_of_openssh(store):
    store.add("alice@example.com", KEY)
    store.add("ci", OTHER, until=UNTIL)

    lines = (store.folder / "allowed_signers").read_text().splitlines()
    assert lines == [
        f'alice@example.com namespaces="vmkit-image@v1" {LINE}',
        f'ci namespaces="vmkit-image@v1",valid-before="20270131235959Z" {OTHER.line}',
    ]
    assert (store.folder / "allowed_signers").stat().st_mode & 0o777 == 0o600


def test_what_is_written_is_read(store):
    added = store.add("ci", KEY, until=UNTIL)

    trust = store.load()
    assert trust.allowed == (added,)
    assert trust.find(KEY) == added
    assert trust.find(OTHER) is None


def test_a_signer_may_have_two_keys_and_a_key_one_signer(store):
    store.add("alice", KEY)
    store.add("alice", OTHER)

    with pytest.raises(WrongState, match='of "alice"'):
        store.add("bob", KEY)
    assert [each.signer for each in store.load().allowed] == ["alice", "alice"]


def test_adding_a_key_again_changes_its_end(store):
    store.add("alice", KEY)

    store.add("alice", KEY, until=UNTIL)

    assert [each.until for each in store.load().allowed] == [UNTIL]


def test_a_removed_signer_is_gone_and_may_come_back(store):
    store.add("alice", KEY)
    store.add("bob", OTHER)

    removed = store.remove("alice")

    assert [each.key for each in removed] == [KEY]
    assert [each.signer for each in store.load().allowed] == ["bob"]
    store.add("alice", KEY)


def test_a_revoked_key_stays_revoked(store):
    store.add("alice", KEY)

    store.revoke(store.keys_of("alice"))
    store.remove("alice")

    assert store.load().revoked == (KEY,)
    assert (store.folder / "revoked_keys").read_text() == f"{LINE}\n"
    with pytest.raises(Refused, match=FINGERPRINT):
        store.add("alice", KEY)


def test_removing_whom_nobody_knows_is_not_found(store):
    with pytest.raises(NotFound, match="mallory"):
        store.remove("mallory")


@pytest.mark.parametrize("name", ["", "*", "a,b", "a b", '"a"', "-a", "!a", "a\n", "é", "a" * 65, "cert-authority *"])
def test_a_name_that_openssh_could_read_otherwise_is_usage(store, name):
    with pytest.raises(UsageError, match="cannot name a signer"):
        store.add(name, KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"alice {LINE}",
        f'* namespaces="vmkit-image@v1" {LINE}',
        f'alice,bob namespaces="vmkit-image@v1" {LINE}',
        f'alice namespaces="*" {LINE}',
        f'alice namespaces="vmkit-image@v1,git" {LINE}',
        f'alice cert-authority,namespaces="vmkit-image@v1" {LINE}',
        f'alice namespaces="vmkit-image@v1",valid-before="20279931000000Z" {LINE}',
        f'alice namespaces="vmkit-image@v1",valid-before="20270131" {LINE}',
        f'alice namespaces="vmkit-image@v1" {LINE} comment',
        'alice namespaces="vmkit-image@v1" ssh-ed25519 AAAA',
        f' alice namespaces="vmkit-image@v1" {LINE}',
        f'alice namespaces="vmkit-image@v1" {LINE}\r',
        f'älice namespaces="vmkit-image@v1" {LINE}',
        f'alice namespaces="vmkit-image@v1" {LINE}\nbob namespaces="vmkit-image@v1" {LINE}',
    ],
)
def test_a_line_that_vmkit_would_not_write_is_an_error(store, text):
    store.add("alice", KEY)
    (store.folder / "allowed_signers").write_text(text + "\n")

    with pytest.raises(UsageError):
        store.load()


def test_comments_and_empty_lines_are_fine(store):
    store.add("alice", KEY)
    path = store.folder / "allowed_signers"
    path.write_text("# ours\n\n" + path.read_text())

    assert [each.signer for each in store.load().allowed] == ["alice"]


def test_a_folder_that_others_can_write_to_is_refused(store):
    store.add("alice", KEY)
    store.folder.chmod(0o777)

    with pytest.raises(Refused, match="nobody else can write"):
        store.load()


def test_a_missing_key_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="there is no file"):
        read_public_key(tmp_path / "none.pub")
