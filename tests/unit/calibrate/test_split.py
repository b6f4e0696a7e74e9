from edgeprune.calibrate.split import split_by_hash, split_by_rank, split_with_evaluation

DOCUMENTS = [f"document {number}" for number in range(2000)]


def test_parts_are_disjoint_complete_and_sized_60_20_20() -> None:
    split = split_by_hash(DOCUMENTS)
    sizes = [len(part) for part in split.parts().values()]
    assert sorted(split.calibrate + split.select + split.report) == sorted(DOCUMENTS)
    assert [round(size / 2000, 1) for size in sizes] == [0.6, 0.2, 0.2]


def test_a_documents_part_does_not_depend_on_the_others_or_their_order() -> None:
    alone = split_by_hash(DOCUMENTS[:50])
    together = split_by_hash(DOCUMENTS[::-1])
    assert set(alone.select) <= set(together.select)
    assert split_by_hash(DOCUMENTS) == together


def test_a_duplicate_counts_once() -> None:
    split = split_by_hash(["same"] * 10)
    assert sum(map(len, split.parts().values())) == 1


def test_with_evaluation_files_the_report_is_on_those_and_shared_texts_leave_it() -> None:
    split = split_with_evaluation(DOCUMENTS, ["fresh", DOCUMENTS[0], "fresh"])
    assert split.report == ["fresh"]
    assert round(len(split.calibrate) / 2000, 2) in (0.74, 0.75, 0.76)
    assert len(split.calibrate) + len(split.select) == 2000


def test_few_documents_split_by_rank_fill_every_part() -> None:
    split = split_by_rank(DOCUMENTS[:10])
    assert [len(part) for part in split.parts().values()] == [6, 2, 2]
