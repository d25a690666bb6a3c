"""Downloads against a server on this machine that does everything a server can do wrong."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mirror
import pytest

from attention_distillation.data import downloads
from attention_distillation.data.downloads import fetch, verify
from attention_distillation.data.table import Source
from attention_distillation.files import InputError, read_json
from attention_distillation.jobs import room

BODY = bytes(range(256)) * 1200  # 300 kB, several chunks
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``body`` at every path; ``script`` says how the next requests go, one dict each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.ranges = BODY, '"one"', True
        self.script: list[dict] = []
        self.seen: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()

    def handle_error(self, *_):
        """A client that was killed is no fault of the server."""

    def address(self, path: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802
        server = self.server
        with server.lock:
            server.seen.append((self.path, self.headers.get("Range")))
            step = server.script.pop(0) if server.script else {}
        status = step.get("status", 404 if self.path == "/gone" else 200)
        if status != 200:
            self.send_response(status)
            for name, value in step.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start = server.body if self.path != "/wrong" else b"wrong" * 60_000, 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            start += step.get("shift", 0)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body) - start + step.get("lie", 0)))
        self.end_headers()
        end = start + step["bytes"] if "bytes" in step else len(body)
        pieces = range(start, end, 16_384)
        for at in pieces:
            self.wfile.write(body[at : min(at + 16_384, end)])
            time.sleep(step.get("slow", 0))
        self.wfile.flush()
        self.close_connection = True


@pytest.fixture
def server():
    with mirror.running(Server()) as server:
        yield server


@pytest.fixture
def row(server):
    return Source("thing", "file", server.address(), filename="file.bin", bytes=len(BODY), sha256=DIGEST)


class Sleep:
    """Instead of time.sleep: what was to be slept."""

    def __init__(self):
        self.waits: list[float] = []

    def __call__(self, seconds: float):
        self.waits.append(seconds)


@pytest.fixture
def get(tmp_path):
    def get(row, **options):
        return fetch(row, tmp_path / "file.bin", tmp_path / "lock.json", **{"sleep": Sleep(), "tries": 3, **options})

    return get


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".file.bin"))


def test_whole(server, row, get, tmp_path):
    assert get(row).read_bytes() == BODY
    assert leftovers(tmp_path) == []
    assert read_json(tmp_path / "lock.json") == {
        "thing": {"address": row.address, "bytes": len(BODY), "sha256": DIGEST},
    }
    get(row)
    assert len(server.seen) == 1  # what is there is checked, not fetched again


def test_broken_off_is_gone_on_with(server, row, get):
    server.script = [{"bytes": 100_000}, {"bytes": 120_000}, {}]
    assert get(row).read_bytes() == BODY
    starts = [int(asked[6:-1]) for _, asked in server.seen[1:]]
    assert len(starts) == 2 and 0 < starts[0] <= 100_000 and starts[0] < starts[1] <= 220_000


def test_tries_that_bring_bytes_do_not_count(server, row, get):
    server.script = [{"bytes": 70_000}] * 4
    assert get(row, tries=2).read_bytes() == BODY
    assert len(server.seen) == 5


def test_gives_up_after_tries_without_progress(server, row, get, tmp_path):
    server.script = [{"bytes": 0}] * 9
    with pytest.raises(InputError, match=r"thing.*127\.0\.0\.1.*broke off after 0.*3 times.*put the file at"):
        get(row)
    assert len(server.seen) == 3
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_length_that_is_a_lie(server, row, get, etag):
    server.etag = etag
    server.script = [{"lie": 10}] * 20
    with pytest.raises(InputError, match="bytes"):
        get(replace(row, bytes=0, sha256=""))
    assert len(server.seen) <= 5


def test_length_against_the_table(server, row, get):
    with pytest.raises(InputError, match=r"300,?\d* bytes|307,200 bytes, not 5"):
        get(replace(row, bytes=5))
    assert len(server.seen) == 1


def test_wrong_bytes(server, row, get, tmp_path):
    server.body = BODY[::-1]
    with pytest.raises(InputError, match=f"not {DIGEST}"):
        get(row)
    assert len(server.seen) == 1 and leftovers(tmp_path) == []
    assert not (tmp_path / "file.bin").exists() and not (tmp_path / "lock.json").exists()


def test_mirror_is_tried_after_wrong_bytes_and_after_404(server, row, get):
    for path in ("wrong", "gone"):
        server.seen.clear()
        get(replace(row, address=server.address(path), mirror=row.address, bytes=0)).unlink()
        assert [seen for seen, _ in server.seen] == [f"/{path}", "/file.bin"]


def test_every_address_is_named_when_none_works(server, row, get):
    with pytest.raises(InputError, match=r"/gone: HTTP 404.*; .*/gone\?b: HTTP 403.*sources\.csv"):
        server.script = [{"status": 404}, {"status": 403}]
        get(replace(row, address=server.address("gone"), mirror=server.address("gone?b")))


def test_no_split_index_names_the_seeded_split(server, row, get):
    with pytest.raises(InputError, match="delete the row to draw the split by seed"):
        get(replace(row, name=downloads.FID_INDEX, address=server.address("gone")))


def test_no_connection(get, row):
    with pytest.raises(InputError, match="no connection"):
        get(replace(row, address="http://127.0.0.1:1/x"))


def test_server_without_ranges(server, row, get):
    server.ranges = False
    server.script = [{"bytes": 100_000}]
    assert get(row).read_bytes() == BODY


def test_file_that_changes_between_tries_is_begun_again(server, row, get):
    server.body, server.etag = BODY[::-1], '"old"'
    server.script = [{"bytes": 150_000}]
    sleep = Sleep()

    def change(seconds):
        server.body, server.etag = BODY, '"new"'
        sleep(seconds)

    assert get(row, sleep=change).read_bytes() == BODY
    assert len(sleep.waits) == 1 and len(server.seen) == 2


def test_wrong_part_is_refused(server, row, get):
    server.script = [{"bytes": 100_000}, {"shift": 7}]
    assert get(row).read_bytes() == BODY


def test_resumed_rubbish_is_fetched_again(server, row, get, tmp_path):
    part = tmp_path / ".file.bin.part"
    part.write_bytes(b"x" * 1000)
    part.with_name(part.name + ".json").write_text(json.dumps({"address": row.address, "validator": '"one"'}))
    assert get(row).read_bytes() == BODY
    assert [asked for _, asked in server.seen] == ["bytes=1000-", None]


def test_killed_after_the_last_byte(server, row, get, tmp_path):
    part = tmp_path / ".file.bin.part"
    part.write_bytes(BODY)
    part.with_name(part.name + ".json").write_text(json.dumps({"address": row.address, "validator": '"one"'}))
    assert get(row).read_bytes() == BODY
    assert len(server.seen) == 1


def test_part_of_another_address_is_not_gone_on_with(server, row, get, tmp_path):
    part = tmp_path / ".file.bin.part"
    part.write_bytes(b"x" * 1000)
    part.with_name(part.name + ".json").write_text(json.dumps({"address": "elsewhere", "validator": '"one"'}))
    assert get(row).read_bytes() == BODY
    assert server.seen[0][1] is None


def _job(row, folder):
    fetch(row, folder / "file.bin", folder / "lock.json")


def test_killed_download_is_gone_on_with(server, row, tmp_path):
    server.script = [{"slow": 0.2}]
    job = multiprocessing.get_context("spawn").Process(target=_job, args=(row, tmp_path))
    job.start()
    part = tmp_path / ".file.bin.part"
    end = time.monotonic() + 15
    while time.monotonic() < end and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    job.kill()
    job.join()
    size = part.stat().st_size
    assert 0 < size < len(BODY) and not (tmp_path / "file.bin").exists()
    _job(row, tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert server.seen[-1][1] == f"bytes={size}-"


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(server, row, get, status):
    server.script = [
        {"status": status, "headers": {"Retry-After": "77"}},
        {"status": status, "headers": {"Retry-After": formatdate(time.time() + 200, usegmt=True)}},
        {"status": status, "headers": {"Retry-After": "soon"}},
    ]
    sleep = Sleep()
    assert get(row, sleep=sleep, tries=4).read_bytes() == BODY
    assert sleep.waits[0] == 77 and 190 <= sleep.waits[1] <= 201 and sleep.waits[2] <= 60


def test_waits_grow_and_are_bounded():
    for attempt in range(12):
        waits = [downloads.wait(attempt) for _ in range(20)]
        assert 0.5 * min(60, 2**attempt) <= min(waits) <= max(waits) <= min(60, 2**attempt)
        assert len(set(waits)) > 1  # jitter: jobs that failed together do not come back together
    assert downloads.wait(0, 1e9) == downloads.LONGEST_WAIT


# ------------------------------------------------------------------ the lock


def test_unknown_hash_is_recorded_and_enforced(server, row, get, tmp_path):
    unknown = replace(row, bytes=0, sha256="")
    target = get(unknown)
    assert read_json(tmp_path / "lock.json")["thing"]["sha256"] == DIGEST
    target.unlink()
    server.body = BODY[::-1]
    with pytest.raises(InputError, match=f"not {DIGEST}"):
        get(unknown)
    target.write_bytes(BODY[::-1])
    with pytest.raises(InputError, match=r"lock\.json describes.*entry 'thing'"):
        verify(unknown, target, tmp_path / "lock.json")


def test_a_file_put_there_by_hand_is_checked(row, get, tmp_path, server):
    (tmp_path / "file.bin").write_bytes(BODY)
    get(row)
    (tmp_path / "file.bin").write_bytes(BODY[:-1])
    with pytest.raises(InputError, match=r"the sources table describes \(it has .* bytes"):
        get(row)
    assert server.seen == []


def test_another_address_is_another_file(row, get, tmp_path, server):
    unknown = replace(row, bytes=0, sha256="")
    get(unknown).unlink()
    server.body = BODY[::-1]
    get(replace(unknown, address=server.address("v2")))
    assert read_json(tmp_path / "lock.json")["thing"]["sha256"] != DIGEST


def test_jobs_that_record_at_once_lose_nothing(tmp_path):
    def record(number):
        downloads.record(tmp_path / "lock.json", f"row{number}", {"sha256": str(number)})

    threads = [threading.Thread(target=record, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_json(tmp_path / "lock.json")) == 12


def test_too_small_a_disk(server, row, get, monkeypatch, tmp_path):
    room.check_disk(tmp_path / "not" / "there", 1)
    usage = room.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"GB are free; make room"):
        get(row)
