"""The sources table: the project's own, and what may be wrong with one."""

from __future__ import annotations

import pytest

from attention_distillation.data.downloads import FID_INDEX
from attention_distillation.data.table import read_sources, rows_for
from attention_distillation.files import InputError
from attention_distillation.settings import WORKFLOW


def test_the_projects_own_table():
    rows = {row.name: row for row in read_sources(WORKFLOW / "reference" / "sources.csv")}
    assert {row.kind for row in rows.values()} == {"file", "hub", "wheel"}
    for row in rows.values():
        assert row.licence and row.used_for
        assert row.kind != "file" or (row.address.startswith("https://") and row.address.split("/")[-1])
        assert row.sha256 or row.kind == "hub" or "first download" in row.note
    assert rows["psgs_w100"].bytes == 4_694_541_059
    assert [row.name for row in rows_for(list(rows.values()), "nq")] == [
        "nq_open_train",
        "nq_open_dev",
        FID_INDEX,
    ]
    assert len(rows_for(list(rows.values()), "enwiki_dec2018")) == 2
    assert rows["contriever"].revision.startswith("970b380")


def test_words_that_the_table_lacks():
    rows = read_sources(WORKFLOW / "reference" / "sources.csv")
    with pytest.raises(InputError, match=r"no 'wiki'; known: .*psgs_w100"):
        rows_for(rows, "wiki")


HEADER = "name,kind,address,mirror,revision,filename,members,bytes,sha256,passages,licence,used_for,note\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("name,kind\n", "line 1: column 'address' is missing"),
        (HEADER + "a,file\n", "line 2: not as many columns"),
        (HEADER + "a,file,http://x,,,x,,,,,l,u,n,more\n", "line 2: not as many columns"),
        (HEADER + "a,tape,http://x,,,x,,,,,l,u,n\n", "line 2: column 'kind' must"),
        (HEADER + "a,file,http://x,,,../x,,,,,l,u,n\n", "line 2: column 'filename' must"),
        (HEADER + "a,file,http://x,,,x,,many,,,l,u,n\n", "line 2: column 'bytes' must"),
        (HEADER + "a,file,http://x,,,x,,,,few,l,u,n\n", "line 2: column 'passages' must"),
        (HEADER + "a,file,http://x,,,x,,,beef,,l,u,n\n", "line 2: column 'sha256' must"),
        (HEADER + "a,file,,,,x,,,,,l,u,n\n", "line 2: column 'address' is empty"),
        (HEADER + "a,hub,x/y,,,,,,,,l,u,n\n", "line 2: column 'revision' must"),
        (HEADER + "a,file,http://x,,,x,,,,,l,u,n\na,file,http://y,,,y,,,,,l,u,n\n", "name 'a' is there twice"),
        (HEADER + "a,file,http://x,,,x,,,,,l,u,n\nb,file,http://y,,,x,,,,,l,u,n\n", "filename 'x' is there twice"),
        (HEADER + f"a,wheel,../p,,1.0,p.whl,p/*,,{'0' * 64},,l,u,n\n", "line 2: column 'address' must"),
        (HEADER + f"a,wheel,p,,latest,p.whl,p/*,,{'0' * 64},,l,u,n\n", "line 2: column 'revision' must"),
        (HEADER + "a,wheel,p,,1.0,p.whl,p/*,,,,l,u,n\n", "line 2: column 'sha256' is empty"),
        (HEADER + f"a,wheel,p,,1.0,p.tar.gz,p/*,,{'0' * 64},,l,u,n\n", "line 2: column 'filename' must be a wheel's"),
        (HEADER + f"a,wheel,p,,1.0,p.whl,,,{'0' * 64},,l,u,n\n", "line 2: column 'members' must say"),
    ],
)
def test_faults_of_a_table(tmp_path, lines, message):
    (tmp_path / "sources.csv").write_text(lines)
    with pytest.raises(InputError, match=message):
        read_sources(tmp_path / "sources.csv")
    with pytest.raises(InputError, match="no such file"):
        read_sources(tmp_path / "none.csv")
