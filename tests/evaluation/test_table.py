"""Results for a terminal."""

from glip.evaluation.table import results_table


def test_numbers_are_listed_in_per_cent():
    table = results_table({"metrics": {"AP": 0.1234, "AP50": None}})
    assert table.splitlines() == ["AP      12.3", "AP50       -"]


def test_parts_have_a_row_each_and_all_of_them_the_last():
    metrics = {"AP": 0.5, "AP50": 1.0, "people/AP": 0.25, "animals/AP50": 0.75}
    lines = results_table({"metrics": metrics}).splitlines()
    assert [line.split() for line in lines] == [
        ["AP", "AP50"],
        ["people", "25.0", "-"],
        ["animals", "-", "75.0"],
        ["all", "50.0", "100.0"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_other_words_are_compared_with_the_names():
    reworded = {
        "wordings": {"cat": "feline"},
        "by_name": {"AP": 0.8, "AP50": 0.0},
        "by_wording": {"AP": 0.4, "AP50": 0.1},
    }
    table = results_table({"metrics": {"AP": 0.5}, "reworded": reworded}).splitlines()
    assert table[2].startswith("other words for 1 class(es)")
    assert table[3].split() == ["by", "their", "names", "80.0", "0.0"]
    assert table[5].split() == ["kept", "50.0", "-"]


def test_a_zero_comes_with_its_likely_causes():
    results = {"metrics": {"AP": 0.0}, "unreadable": ["a.png"], "likely_causes": ["boxes: xywh"]}
    assert results_table(results).splitlines()[1:] == [
        "1 pictures could not be read, see results.json",
        "Nothing was right. Likely causes:",
        "- boxes: xywh",
    ]
