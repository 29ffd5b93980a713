"""Test files are read a case at a time, and bad ones fail by name."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from openledger.evm_ext.conformance.files import RawCase, cases, fixture_files
from openledger.evm_ext.conformance.runner import Unit, plan, run_unit, run_units
from openledger.evm_ext.conformance.values import InvalidFixture, data, quantity, unbounded_quantity


def test_a_folder_gives_its_files_in_order_without_hidden_ones(tmp_path):
    for name in ("b.json", "a/c.json", ".meta/index.json", "a/.x.json", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [str(file.relative_to(tmp_path)) for file in fixture_files(tmp_path)] == ["a/c.json", "b.json"]


def test_cases_can_be_shared_between_processes(tmp_path):
    file = tmp_path / "many.json"
    file.write_text(json.dumps({f"case {index}": {"value": index} for index in range(10)}))
    shares = [[case.decode()["value"] for case in cases(file, start, 3)] for start in range(3)]
    assert shares == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x00\xff", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"a": ', "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"\xff": 1}', "not a JSON object"),
    ],
)
def test_what_is_no_test_file_is_one_failure(tmp_path, content, words):
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    (result,) = run_unit(Unit(file, "state", None, True))
    assert not result.passed
    assert words in result.error


@pytest.mark.parametrize(
    "case",
    [
        5,
        [],
        {"transaction": {}, "pre": [], "env": {}},
        {"transaction": {}, "pre": {}, "env": {}, "post": {"Prague": [{"indexes": {}}]}},
        {"transaction": {}, "pre": {"0x12": {}}, "env": {}, "post": {"Prague": []}},
        {"transaction": {}, "pre": {}, "env": {"currentCoinbase": "x"}, "post": {"Prague": []}},
    ],
)
def test_a_case_that_cannot_be_read_is_one_failure_and_the_next_is_read(tmp_path, case):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"first": case, "second": 1}))
    results = run_unit(Unit(file, "state", None, True))
    assert [result.name for result in results] == ["first", "second"]
    assert not any(result.passed for result in results)
    assert not any(result.error.startswith("internal error") for result in results)


def test_a_path_that_is_not_there_fails_and_a_folder_without_tests_too(tmp_path):
    units, failures = plan("state", [tmp_path / "none", tmp_path], None, 2)
    assert units == []
    assert [failure.error for failure in failures] == ["no such file or folder", "no .json file in this folder"]


def test_a_case_of_another_kind_fails_in_a_file_asked_for_and_is_left_out_of_a_folder(tmp_path):
    file = tmp_path / "chain.json"
    file.write_text(json.dumps({"x": {"blocks": []}, "_info": {}}))
    (result,) = run_unit(Unit(file, "state", None, True))
    assert "not a state test" in result.error
    assert run_unit(Unit(file, "state", None, False)) == []


class DeadlyPath:
    """Ends the process that is to read it."""

    def __reduce__(self):
        return os._exit, (9,)

    def __str__(self):
        return "deadly.json"


def test_a_process_that_dies_takes_only_its_own_file_with_it(tmp_path):
    file = tmp_path / "sound.json"
    file.write_text(json.dumps({"sound": {"blocks": []}}))
    units, _ = plan("blockchain", [tmp_path], None, 2)
    deadly = Unit(DeadlyPath(), "blockchain", None, True)
    given = {str(unit.path): results for unit, results in run_units([deadly, *units], 2)}
    assert given[str(file)] == run_unit(units[0])
    (result,) = given["deadly.json"]
    assert "died" in result.error


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x", 0), ("0x00ff", 255), ("12", 12), (7, 7), ("0x:bigint 0x10", 16), ("", 0)],
)
def test_numbers_of_ten_years_are_read(text, number):
    assert quantity(text, "x") == number


@pytest.mark.parametrize("text", ["0xg", "-1", None, True, 1.5, [], "0x" + "1" * 65])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(InvalidFixture, match="balance"):
        quantity(text, "balance")


def test_bytes_are_read_with_and_without_prefix():
    assert data("0xabc", "x") == b"\x0a\xbc"
    assert data("ff", "x") == b"\xff"
    assert unbounded_quantity("0x" + "1" * 65, "x") > 2**256
    for value in ("0xzz", 5, None):
        with pytest.raises(InvalidFixture, match="code"):
            data(value, "code")
    with pytest.raises(InvalidFixture, match="20 bytes"):
        data("0x00", "address", 20)


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000])
def test_a_file_that_is_too_deep_is_refused_and_the_process_lives(tmp_path, text):
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(InvalidFixture, match="not a JSON object of cases"):
        list(cases(tmp_path / "deep.json"))
    with pytest.raises(InvalidFixture, match="recursion"):
        RawCase("deep", msgspec.Raw(text.encode())).decode()
