from openledger.genesis.counted import counted


def test_a_number_agrees_with_what_it_counts():
    assert [counted(count, "block") for count in (0, 1, 2, 12_000)] == [
        "0 blocks",
        "1 block",
        "2 blocks",
        "12,000 blocks",
    ]
    assert [counted(count, "thing is", "things are") for count in (1, 3)] == ["1 thing is", "3 things are"]
