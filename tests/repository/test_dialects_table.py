"""The table of the files that are found beside a model is made from the dialects."""

from tools.release import dialects_table


def test_the_table_is_up_to_date():
    text = dialects_table.PATH.read_text(encoding="utf-8")
    assert dialects_table.with_table(text) == text, "run: python -m tools.release.dialects_table"


def test_the_table_names_every_file():
    table = dialects_table.table()
    for dialect in dialects_table.DIALECTS:
        assert all(f"`{name.replace('{stem}', 'NAME')}`" in table for name in dialect.files)
    assert "`NAME.preprocess.json`, `NAME.preprocess.yaml`" in table
    assert table.count("\n") == 4 + len(dialects_table.DIALECTS)
