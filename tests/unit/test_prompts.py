"""The prompt CSV reader: every family's columns, and a clear line for everything that cannot be used."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.prompts import MAX_SEED, Row, ids_cell, read_csv


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "prompts.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_columns_of_esd(write):
    path = write(",case_number,prompt,evaluation_seed,artist\n0,5,A Wheatfield,2219,Vincent van Gogh\n")
    assert read_csv(path) == [Row(5, "A Wheatfield", 2219, extra={"": "0", "artist": "Vincent van Gogh"})]


def test_columns_of_i2p(write):
    path = write(
        "prompt,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,case_number\n"
        '"a, b",4290749014,7.5,512,768,3\nc,1,,,,4\n'
    )
    assert read_csv(path) == [
        Row(3, "a, b", 4290749014, evaluation_guidance=7.5, width=512, height=768),
        Row(4, "c", 1),
    ]


def test_first_alias_wins_and_the_other_stays_an_extra(write):
    path = write("case_number,prompt,adv_prompt,seed,evaluation_seed\n0,plain,attack,1,2\n")
    assert read_csv(path) == [Row(0, "attack", 2, extra={"prompt": "plain", "seed": "1"})]


def test_ids_of_tokens(write):
    path = write("prompt,evaluation_seed,token_ids\na,1,320 1125\nb,1,\nc,1,539.0\n")
    assert [row.token_ids for row in read_csv(path)] == [(320, 1125), None, (539,)]
    assert ids_cell((320, 1125)) == "320 1125" and ids_cell(None) == ""


def test_prompts_are_text(write):
    """Published: an empty prompt was drawn as "nan"."""
    path = write('case_number,prompt,evaluation_seed\n0,,1\n1,nan,1\n2,None,1\n3,"two\nlines",1\n4," blank ",1\n')
    assert [row.prompt for row in read_csv(path)] == ["", "nan", "None", "two\nlines", " blank "]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends(write, newline, end, start):
    text = start + "case_number,prompt,evaluation_seed\n0,a,1\n1,b,2" + end
    assert read_csv(write(text.replace("\n", newline))) == [Row(0, "a", 1), Row(1, "b", 2)]


def test_rows_are_counted_without_a_case_number(write, caplog):
    rows = read_csv(write(",prompt,evaluation_seed\n2500,a,1\n2501,b,1\n"))
    assert [row.case_number for row in rows] == [0, 1]
    assert "counted from 0" in caplog.text


def test_image_ids_are_case_numbers(write):
    assert read_csv(write("image_id,prompt,evaluation_seed\n000000391895,a,1\n"))[0].case_number == 391895


def test_default_seed_stands_in_for_the_column_only(write):
    assert read_csv(write("prompt\na\n"), default_seed=42)[0].evaluation_seed == 42
    with pytest.raises(UserError, match="empty"):
        read_csv(write("prompt,seed\na,\n"), default_seed=42)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("case_number,prompt\n0,a\n", ["no column evaluation_seed (or sd_seed)", "'case_number', 'prompt'"]),
        ("case_number,text,seed\n0,a,1\n", ["no column prompt (or adv_prompt)"]),
        ("case_number,prompt,evaluation_seed\n0,a,1\n1,b,\n", ["row 2 (line 3)", "column evaluation_seed", "empty"]),
        ("case_number,prompt,evaluation_seed\n0,a,nan\n", ["row 1 (line 2)", "evaluation_seed", "'nan'"]),
        ("case_number,prompt,sd_seed\n0,a,-4\n", ["row 1", "column sd_seed", "-4 is not within 0.."]),
        ("case_number,prompt,evaluation_seed\n0,a,1.5\n", ["row 1", "'1.5' is not a whole number"]),
        ("prompt,evaluation_seed,token_ids\na,1,5 x\n", ["row 1", "column token_ids", "'x' is not a whole number"]),
        (f"case_number,prompt,evaluation_seed\n0,a,{MAX_SEED + 1}\n", ["row 1", "not within"]),
        ("case_number,prompt,evaluation_seed\n0,a,1\nx,b,1\n", ["row 2", "column case_number", "'x'"]),
        ("case_number,prompt,evaluation_seed\n,a,1\n", ["row 1", "column case_number", "empty"]),
        ("case_number,prompt,evaluation_seed\n-1,a,1\n", ["column case_number", "-1 is not within"]),
        ("case_number,prompt,evaluation_seed\n7,a,1\n8,b,1\n7,c,1\n", ["row 3 (line 4)", "7", "row 1 (line 2)"]),
        ("case_number,prompt,evaluation_seed,guidance\n0,a,1,inf\n", ["row 1", "column guidance", "'inf'"]),
        ("case_number,prompt,evaluation_seed,width\n0,a,1,0\n", ["row 1", "column width", "0 is not within"]),
        ("case_number,prompt,evaluation_seed\n0,a, b,1\n", ["row 1 (line 2)", "4 cells", "3", "quoted"]),
        ("case_number,prompt,evaluation_seed\n0,a\n", ["row 1 (line 2)", "column evaluation_seed", "2 cells"]),
        ('case_number,prompt,evaluation_seed\n0,"a\nb",1\n1,c,x\n', ["row 2 (line 4)"]),
        ('case_number,prompt,evaluation_seed\n0,"a,1\n', ["from line 2", "not a CSV file"]),
        ("case_number,prompt,prompt,seed\n0,a,b,1\n", ["prompt more than once"]),
        ("case_number,prompt,evaluation_seed\n", ["no rows"]),
        ("", ["is empty"]),
        (b"case_number,prompt,evaluation_seed\n0,\xff\xfe,1\n", ["not a text in UTF-8"]),
    ],
)
def test_mistakes_are_named(write, text, parts):
    path = write(text)
    with pytest.raises(UserError) as caught:
        read_csv(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for part in parts:
        assert part in message


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(UserError, match="is a folder"):
        read_csv(tmp_path)


_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=40)


@given(st.lists(st.tuples(_text, st.integers(0, MAX_SEED)), min_size=1, max_size=6))
def test_what_csv_writes_is_read_back(tmp_path_factory, cells):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_number", "prompt", "evaluation_seed"])
    writer.writerows([case, prompt, seed] for case, (prompt, seed) in enumerate(cells))
    path = tmp_path_factory.mktemp("csv") / "prompts.csv"
    path.write_bytes(text.getvalue().encode())
    assert read_csv(path) == [Row(case, prompt, seed) for case, (prompt, seed) in enumerate(cells)]
