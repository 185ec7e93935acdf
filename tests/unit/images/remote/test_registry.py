"""A registry that misbehaves gets no credentials that are not its own, and its bytes do not count before they are checked."""

import json
import random

import pytest

from tests.fakeregistry import INDEX, FakeRegistry
from vmkit.errors import Refused
from vmkit.images.layout import MANIFEST_TYPE, Blob, canonical_json, digest_of
from vmkit.images.remote.base import Absent, Denied, RegistryFailed, Unreachable
from vmkit.images.remote.credentials import Credential

DATA = random.Random(7).randbytes(3 << 20)
BLOB = Blob(media_type="x", digest=digest_of(DATA), size=len(DATA))
ALICE = Credential(user="alice", password="secret")
SUBJECT = digest_of(b"an image")


def fetched(repository, folder, blob=BLOB):
    counted = []
    repository.fetch(blob, folder / "part", on_bytes=counted.append)
    return (folder / "part").read_bytes(), sum(counted)


def artifact(text="signature"):
    layer = text.encode()
    descriptor = {"mediaType": "application/x", "digest": digest_of(layer), "size": len(layer)}
    content = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": "application/vnd.test",
            "config": descriptor,
            "layers": [descriptor],
            "subject": {"mediaType": MANIFEST_TYPE, "digest": SUBJECT, "size": 8},
            "annotations": {"note": "\x1b[31mred"},
        }
    )
    return content, {digest_of(layer): layer}


def test_a_blob_comes_whole(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)

    content, counted = fetched(repository(registry), tmp_path)

    assert content == DATA
    assert counted == len(DATA)
    assert registry.asked("GET", "blobs")[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize("ignore_ranges", [False, True])
def test_a_broken_blob_goes_on_where_it_was_or_begins_again(registry, repository, tmp_path, ignore_ranges):
    registry.keep("team/kiro", DATA)
    registry.faults.cut_after, registry.faults.cuts, registry.faults.ignore_ranges = 1 << 20, 2, ignore_ranges

    content, counted = fetched(repository(registry), tmp_path)

    assert content == DATA
    assert counted == len(DATA)
    assert [headers.get("range") for _, headers in registry.asked("GET", "blobs")] == [
        None,
        "bytes=1048576-",
        "bytes=1048576-" if ignore_ranges else "bytes=2097152-",
    ]


def test_what_an_earlier_run_left_is_not_fetched_again(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)
    (tmp_path / "part.partial").write_bytes(DATA[: 2 << 20])

    content, counted = fetched(repository(registry), tmp_path)

    assert content == DATA
    assert counted == 1 << 20


def test_what_an_earlier_run_left_and_does_not_fit_is_fetched_again(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)
    (tmp_path / "part.partial").write_bytes(b"x" * (1 << 20))

    assert fetched(repository(registry), tmp_path)[0] == DATA


@pytest.mark.parametrize("fault", ["flipped", "longer"])
def test_a_blob_that_is_another_is_refused_and_not_kept(registry, repository, tmp_path, fault):
    registry.keep("team/kiro", DATA)
    getattr(registry.faults, fault).add(BLOB.digest)

    with pytest.raises(Refused):
        fetched(repository(registry), tmp_path)

    assert not (tmp_path / "part").exists()
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_another_range_than_was_asked_for_is_an_error(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)
    registry.faults.other_range = True
    (tmp_path / "part.partial").write_bytes(DATA[:1000])

    with pytest.raises(RegistryFailed):
        fetched(repository(registry), tmp_path)


def test_a_registry_that_never_sends_all_is_given_up_and_the_beginning_kept(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)
    registry.faults.cut_after, registry.faults.cuts = 0, 99

    with pytest.raises(Unreachable):
        fetched(repository(registry), tmp_path)

    assert len(registry.asked("GET", "blobs")) < 9


def test_a_registry_that_has_a_hiccup_is_asked_again(registry, repository, recorder):
    registry.tag("team/kiro", "1", b"{}")
    registry.faults.answers["manifests/1"] = [503, 429, 500]

    assert repository(registry, sleep=recorder.sleep).manifest("1") == b"{}"
    assert recorder.slept == [0.5, 1.0, 2.0]


def test_a_registry_that_is_ill_is_given_up_with_its_words_made_harmless(registry, repository):
    registry.faults.answers["manifests/1"] = [503] * 50

    with pytest.raises(Unreachable) as caught:
        repository(registry).manifest("1")

    assert "OOPS ^[[31mno" in caught.value.detail
    assert len(registry.requests) == 5


def test_nobody_at_the_address_is_unreachable(repository):
    with FakeRegistry() as gone:
        pass

    with pytest.raises(Unreachable):
        repository(gone).manifest("1")


@pytest.mark.parametrize("bearer", [False, True])
def test_a_login_opens_the_registry(registry, repository, tmp_path, bearer):
    registry.login, registry.bearer = ("alice", "secret"), bearer
    registry.keep("team/kiro", DATA)

    assert fetched(repository(registry, credential=ALICE), tmp_path)[0] == DATA


@pytest.mark.parametrize("bearer", [False, True])
def test_a_registry_that_never_lets_in_is_asked_twice(registry, repository, bearer):
    registry.login, registry.bearer, registry.accept_token = ("alice", "other"), bearer, False
    known = Credential(user="alice", password="other" if bearer else "secret")

    with pytest.raises(Denied):
        repository(registry, credential=known).manifest("1")

    assert len(registry.asked("GET", "/v2/")) == 2


def test_without_credentials_the_hint_is_to_log_in(registry, repository):
    registry.login = ("alice", "secret")

    with pytest.raises(Denied) as caught:
        repository(registry).manifest("1")

    assert caught.value.hint == f"docker login {registry.host}"


def test_who_is_redirected_to_gets_the_request_without_credentials(registry, repository, tmp_path):
    registry.login = ("alice", "secret")
    registry.keep("team/kiro", DATA)
    with FakeRegistry() as storage:
        storage.keep("elsewhere", DATA)
        registry.faults.redirect_blobs = f"http://{storage.host}/v2/elsewhere/blobs/{{digest}}"

        assert fetched(repository(registry, credential=ALICE), tmp_path)[0] == DATA

    assert ["authorization" in headers for _, headers in storage.asked("GET")] == [False]
    assert "authorization" in registry.asked("GET")[-1][1]


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https://u:p@127.0.0.1/x",
        "https:///x",
        "http://[::2]/x",
    ],
)
def test_a_redirect_to_where_nobody_should_go_is_refused(registry, repository, tmp_path, target):
    registry.keep("team/kiro", DATA)
    registry.faults.redirect_blobs = target

    with pytest.raises(Refused):
        fetched(repository(registry), tmp_path)


def test_redirects_without_end_are_refused(registry, repository, tmp_path):
    registry.keep("team/kiro", DATA)
    registry.faults.redirect_blobs = f"http://{registry.host}/v2/team/kiro/blobs/{BLOB.digest}"

    with pytest.raises(Refused):
        fetched(repository(registry), tmp_path)

    assert len(registry.requests) < 10


def test_a_manifest_by_digest_has_that_digest(registry, repository):
    registry.tag("team/kiro", digest_of(b"{}"), b'{"other":1}')
    registry.faults.says_digest = digest_of(b"{}")

    with pytest.raises(Refused):
        repository(registry).manifest(digest_of(b"{}"))


def test_a_manifest_that_is_not_what_its_header_says_is_refused(registry, repository):
    registry.tag("team/kiro", "1", b"{}")
    registry.faults.says_digest = digest_of(b"x")

    with pytest.raises(Refused):
        repository(registry).manifest("1")


def test_a_huge_manifest_is_refused(registry, repository):
    registry.tag("team/kiro", "1", b" " * (5 << 20))

    with pytest.raises(Refused, match="more than"):
        repository(registry).manifest("1")


def test_a_missing_manifest_is_absent(registry, repository):
    with pytest.raises(Absent):
        repository(registry).manifest("1")
    assert repository(registry).find_digest("1") is None


def test_a_blob_is_sent_once(registry, repository, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(DATA)

    assert not repository(registry).has(BLOB)
    assert repository(registry).send(BLOB, source, on_bytes=lambda _: None) == len(DATA)

    assert registry.blobs["team/kiro"][BLOB.digest] == DATA
    assert repository(registry).has(BLOB)


def test_a_blob_that_the_registry_choked_on_is_sent_again(registry, repository, tmp_path):
    source, counted = tmp_path / "source", []
    source.write_bytes(DATA)
    registry.faults.answers["PUT /v2/team/kiro/blobs"] = [500]

    repository(registry).send(BLOB, source, on_bytes=counted.append)

    assert registry.blobs["team/kiro"][BLOB.digest] == DATA
    assert sum(counted) == len(DATA)


def test_a_blob_of_another_repository_is_lent_and_not_sent(registry, repository, tmp_path):
    registry.keep("team/base", DATA)

    sent = repository(registry, mount_from={BLOB.digest: "team/base"}).send(
        BLOB, tmp_path / "none", on_bytes=lambda _: None
    )

    assert sent == 0
    assert registry.blobs["team/kiro"][BLOB.digest] == DATA


def test_a_blob_that_is_not_lent_is_sent(registry, repository, tmp_path):
    (tmp_path / "source").write_bytes(DATA)

    lent = repository(registry, mount_from={BLOB.digest: "team/base"})

    assert lent.send(BLOB, tmp_path / "source", on_bytes=lambda _: None) == len(DATA)


@pytest.mark.parametrize(
    "location", ["http://10.0.0.1/up", "https://127.0.0.1/up", "//evil.test/up", "http://[::1/up", "\\\\evil"]
)
def test_an_image_is_not_sent_elsewhere(registry, repository, tmp_path, location):
    (tmp_path / "source").write_bytes(DATA)
    registry.faults.upload_location = location

    with pytest.raises((Refused, RegistryFailed, Absent)):
        repository(registry).send(BLOB, tmp_path / "source", on_bytes=lambda _: None)


def test_a_registry_that_keeps_another_manifest_is_noticed(registry, repository):
    registry.faults.says_digest = digest_of(b"x")

    with pytest.raises(RegistryFailed):
        repository(registry).put_manifest(b"{}", version="1")


@pytest.mark.parametrize("api", [False, True])
def test_what_is_attached_is_listed(registry, repository, api):
    registry.faults.referrers_api = api
    one, two = artifact("one"), artifact("two")

    attached = {
        repository(registry).attach(content, subject=SUBJECT, blobs=blobs) for content, blobs in (one, two, one)
    }

    listed = repository(registry).referrers(SUBJECT)
    assert {referrer.digest for referrer in listed} == attached == {digest_of(one[0]), digest_of(two[0])}
    assert {referrer.artifact_type for referrer in listed} == {"application/vnd.test"}
    assert len(listed) == 2
    assert repository(registry).manifest(listed[0].digest) in {one[0], two[0]}
    assert ("team/kiro", SUBJECT.replace(":", "-")) in registry.manifests or api


def test_what_is_listed_is_shown_harmlessly(registry, repository):
    content, blobs = artifact()

    repository(registry).attach(content, subject=SUBJECT, blobs=blobs)

    assert repository(registry).referrers(SUBJECT)[0].annotations == {"note": "^[[31mred"}


def test_a_list_that_somebody_else_wrote_meanwhile_is_written_again(registry, repository):
    registry.faults.forget_index = 2
    content, blobs = artifact()

    repository(registry).attach(content, subject=SUBJECT, blobs=blobs)

    assert [referrer.digest for referrer in repository(registry).referrers(SUBJECT)] == [digest_of(content)]


def test_an_artifact_of_another_image_is_not_attached(registry, repository):
    content, blobs = artifact()

    with pytest.raises(Refused):
        repository(registry).attach(content, subject=digest_of(b"another"), blobs=blobs)

    assert registry.requests == []


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"manifests": 5},
        {"manifests": [{"mediaType": "x", "digest": "sha256:x", "size": 1}]},
        {"manifests": [{"mediaType": "x", "digest": SUBJECT, "size": -1}]},
        {"manifests": [{"mediaType": "x", "digest": SUBJECT, "size": 1 << 40}]},
        {"manifests": [5]},
        {"manifests": [{"mediaType": "x", "digest": SUBJECT, "size": 1}] * 2000},
    ],
)
def test_a_hostile_list_is_refused(registry, repository, index):
    registry.tag("team/kiro", SUBJECT.replace(":", "-"), json.dumps(index).encode(), INDEX)

    with pytest.raises(Refused):
        repository(registry).referrers(SUBJECT)


def test_a_registry_that_trickles_is_given_up(registry, repository, tmp_path):
    ticks = iter(range(0, 100_000, 40))
    small = Blob(media_type="x", digest=registry.keep("team/kiro", DATA[:300]), size=300)
    registry.faults.drips = True

    with pytest.raises(Unreachable, match="too slow"):
        fetched(repository(registry, clock=lambda: float(next(ticks))), tmp_path, small)

    assert len(registry.requests) == 1
