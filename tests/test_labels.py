"""Labels from files and metadata, and classes by label."""

import json

import pytest

from onnx_xcam.errors import ClassError, LabelsError, ModelError
from onnx_xcam.labels import label_of, labels_from_metadata, load_labels, resolve_class

PETS = ["cat", "dog", "fish"]


def written(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\ndog\nfish\n", PETS),
        ("cat\r\ndog\r\nfish", PETS),
        ("\ufeffcat\ndog\nfish\n\n\n", PETS),
        (" cat \n\tdog\nfish", PETS),
        ("0: cat\n1: dog\n2: fish", PETS),
        ("0 cat\n1 dog\n2 fish", PETS),
        ("0,cat\n1,dog\n2,fish", PETS),
        ("0\tcat\n1\tdog\n2\tfish", PETS),
        ("'0': 'cat'\n'1': 'dog'\n'2': 'fish'", PETS),
        ("2: fish\n\n0: cat\n1: dog", PETS),
        ("0: cat\n2: fish", ["cat", "", "fish"]),
        ("cat\n\nfish", ["cat", "", "fish"]),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish", ["tench, Tinca tinca", "goldfish"]),
        ("0: n01440764 tench\n1: n01443537 goldfish", ["tench", "goldfish"]),
        ("n01440764\nn01443537", ["n01440764", "n01443537"]),
        ("7 Series\nrock 'n' roll\n's-Hertogenbosch", ["7 Series", "rock 'n' roll", "'s-Hertogenbosch"]),
        ("0\n1\n2", ["0", "1", "2"]),
        ("собака\n猫", ["собака", "猫"]),
    ],
)
def test_text_files(tmp_path, text, expected):
    assert load_labels(written(tmp_path, "метки.txt", text)) == expected


@pytest.mark.parametrize(
    "data",
    [
        PETS,
        {"0": "cat", "1": "dog", "2": "fish"},
        {"2": "fish", "0": "cat", "1": "dog"},
        {"0": ["n02123045", "cat"], "1": ["n1", "dog"], "2": ["n2", "fish"]},
        {"cat": 0, "dog": 1, "fish": 2},
        {"architectures": ["ViT"], "id2label": {"0": "cat", "1": "dog", "2": "fish"}, "label2id": {"cat": 0}},
        {"path": "coco", "names": PETS},
        {"labels": PETS},
    ],
)
def test_json_files(tmp_path, data):
    assert load_labels(str(written(tmp_path, "labels.json", json.dumps(data)))) == PETS


@pytest.mark.parametrize(
    "text", ["- cat\n- dog\n- fish", "0: cat\n1: dog\n2: fish", "names:\n  0: cat\n  1: dog\n  2: fish\nnc: 3"]
)
def test_yaml_files(tmp_path, text):
    assert load_labels(written(tmp_path, "labels.yaml", text)) == PETS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "", "has no labels"),
        ("l.txt", "\n \n", "has no labels"),
        ("l.txt", "0: cat\n0: dog", "class 0 has two labels, 'cat' and 'dog'"),
        ("l.txt", "1: cat\n2: dog", "begin at 1"),
        ("l.txt", "0: cat\n99999999999: dog", "class ids must be"),
        ("l.txt", "cat\0dog", "not a text file"),
        ("l.json", "{", "not valid JSON"),
        ("l.yaml", "a: [", "not valid YAML"),
        ("l.json", "[]", "has no labels"),
        ("l.json", "{}", "has no labels"),
        ("l.json", "3", "it holds int"),
        ("l.json", '["cat", null]', "a label must be text, not None"),
        ("l.json", '{"0": {"a": 1}}', "a label must be text"),
        ("l.json", '{"cat": "x"}', "'cat' is no id"),
        ("l.json", '{"nothing": ["cat"]}', "'nothing' is no id"),
        ("l.yaml", "-1: cat\n0: dog", "class ids must be"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    path = written(tmp_path, name, text)
    with pytest.raises(LabelsError, match=message) as caught:
        load_labels(path)
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(LabelsError, match="no such labels file"):
        load_labels(tmp_path / "none.txt")
    with pytest.raises(LabelsError, match="cannot be read"):
        load_labels(tmp_path)
    with pytest.raises(LabelsError, match="not a text file in UTF-8"):
        load_labels(written(tmp_path, "l.txt", "chien\nforêt", "latin-1"))


@pytest.mark.parametrize(
    "props",
    [
        {"onnx_xcam": json.dumps({"labels": PETS})},
        {"onnx_xcam": json.dumps({"labels": PETS}), "names": "{0: 'other'}"},
        {"onnx_xcam": json.dumps({"version": 1}), "names": "{0: 'cat', 1: 'dog', 2: 'fish'}"},
        {"names": '{0: "cat", 1: "dog", 2: "fish"}', "task": "classify"},
        {"names": "['cat', 'dog', 'fish']"},
        {"labels": json.dumps(PETS)},
        {"labels": "cat\ndog\nfish\n"},
        {"labels": "cat, dog, fish"},
        {"classes": "3", "labels": json.dumps(PETS)},
        {"names": "images, output", "labels": json.dumps(PETS)} | {"names": "{broken"},
        {"classes": json.dumps({"0": "cat", "1": "dog", "2": "fish"})},
        {"id2label": json.dumps({"0": "cat", "1": "dog", "2": "fish"})},
    ],
)
def test_metadata(props):
    assert labels_from_metadata(props) == PETS


@pytest.mark.parametrize("props", [{}, {"author": "cat"}, {"classes": "1000"}, {"names": "{0: __import__('os')}"}])
def test_metadata_without_labels(props):
    assert labels_from_metadata(props) is None


@pytest.mark.parametrize(
    ("value", "error"), [("{", ModelError), ('{"labels": 3}', ModelError), ('{"labels": []}', LabelsError)]
)
def test_our_own_metadata_must_be_right(value, error):
    with pytest.raises(error, match="metadata"):
        labels_from_metadata({"onnx_xcam": value})


def test_label_of():
    assert [label_of(i, ["cat", ""]) for i in (0, 1, 2, -1)] == ["cat", None, None, None]
    assert label_of(0, None) is None


ZOO = ["tabby, tabby cat", "tiger cat", "Egyptian cat", "crane", "catamaran", "crane", "Great Dane", "crane bird"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (0, 0),
        (7, 7),
        (-1, -1),
        (-8, -8),
        ("3", 3),
        (" 5 ", 5),
        ("-2", -2),
        ("+4", 4),
        ("Egyptian cat", 2),
        ("egyptian CAT", 2),
        ("tabby", 0),
        ("Tabby Cat", 0),
        ("tiger", 1),
        ("dane", 6),
        ("catam", 4),
        ("bird", 7),
        ("tabby, tabby cat", 0),
    ],
)
def test_resolve_class(wanted, expected):
    assert resolve_class(wanted, ZOO, len(ZOO)) == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (8, "class 8 is out of range: the model has 8 classes, 0 to 7"),
        (-9, "class -9 is out of range"),
        ("8", "class 8 is out of range"),
        ("99999999999999999999999", "out of range"),
        ("crane", r"'crane' means 2 classes: 3 \(crane\), 5 \(crane\); give the id"),
        ("CRANE", r"means 2 classes: 3 \(crane\), 5 \(crane\)"),
        ("cat", r"means 3 classes: 0 \(tabby, tabby cat\), 1 \(tiger cat\), 2 \(Egyptian cat\)"),
        ("a", r"means 8 classes: .* and 3 more"),
        ("katamaran", r"no class is labelled 'katamaran'; the nearest are 4 \(catamaran\)"),
        ("egiptian", r"the nearest are 2 \(Egyptian cat\)"),
        ("zzzz", "no class is labelled 'zzzz'$"),
        ("", "the class is empty"),
        ("  ", "the class is empty"),
        (True, "True is no class"),
    ],
)
def test_resolve_class_errors(wanted, message):
    with pytest.raises(ClassError, match=message):
        resolve_class(wanted, ZOO, len(ZOO))


def test_resolve_class_without_labels_or_count():
    assert resolve_class("12", None, None) == 12
    assert resolve_class(12, None, 13) == 12
    with pytest.raises(ClassError, match="no labels are known"):
        resolve_class("cat", None, 10)


def test_numbers_are_ids_before_they_are_labels():
    years = ["1990", "1", "1992"]
    assert resolve_class("1", years, 3) == 1
    assert resolve_class("2", ["2", "1", "0"], 3) == 2
    assert resolve_class("1992", years, 3) == 2


def test_a_label_beyond_the_models_classes():
    with pytest.raises(ClassError, match="class 2 is out of range"):
        resolve_class("fish", PETS, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "id,name\n0,cat\n1,dog\n2,fish\n"),
        ("l.csv", "index,mid,display_name\n2,/m/3,fish\n0,/m/1,cat\n1,/m/2,dog"),
        ("l.csv", "name\ncat\ndog\nfish"),
        ("l.csv", "0,cat\n1,dog\n2,fish"),
        ("l.csv", "Nummer,Art\n0,cat\n1,dog\n2,fish"),
        ("l.csv", "cat\ndog\nfish"),
        ("l.tsv", "class_id\tclass_name\n0\tcat\n1\tdog\n2\tfish"),
        ("l.txt", "0 cat\r\n1 dog\r\n2 fish\r\n"),
    ],
)
def test_tables(tmp_path, name, text):
    assert load_labels(written(tmp_path, name, text)) == PETS


def test_a_label_with_a_comma_is_quoted_in_a_table(tmp_path):
    text = 'id,name\n0,"tench, Tinca tinca"\n1,goldfish'
    assert load_labels(written(tmp_path, "l.csv", text)) == ["tench, Tinca tinca", "goldfish"]


def test_a_table_in_which_no_column_is_plainly_the_labels(tmp_path):
    with pytest.raises(LabelsError, match="which of its 3 columns holds the labels is not plain"):
        load_labels(written(tmp_path, "l.csv", "id,a,b\n0,x,y\n1,z,w"))


def test_a_cell_without_end(tmp_path):
    text = 'id,name\n0,"cat\n' + "dog\n" * 50_000
    with pytest.raises(LabelsError, match="no table: field larger than field limit"):
        load_labels(written(tmp_path, "l.csv", text))


def test_numbers_before_labels_that_begin_with_a_digit(tmp_path):
    assert load_labels(written(tmp_path, "l.txt", "0 2 euro\n1 1 euro\n2 50 cent")) == ["2 euro", "1 euro", "50 cent"]
    assert load_labels(written(tmp_path, "l.txt", "1 euro\n2 euro\n3 5 euro")) == ["1 euro", "2 euro", "3 5 euro"]


def test_a_label_map_of_tensorflow(tmp_path):
    text = """# pets
    item { id: 2 name: '/m/2' display_name: "dog" }
    item {
      name: "cat"
      id: 1
      keypoints { id: 7 label: "nose" }
    }
    """
    assert load_labels(written(tmp_path, "label_map.pbtxt", text)) == ["", "cat", "dog"]
    for bad, message in (
        ("item { id: 1 }", "no name"),
        ("item { name: 'x' }", "no id"),
        ("item {", "brace"),
        ("%", "position 0"),
    ):
        with pytest.raises(LabelsError, match=message):
            load_labels(written(tmp_path, "bad.pbtxt", bad))


@pytest.mark.parametrize(
    "data",
    [
        {"vocab": PETS},
        {"label2id": {"cat": 0, "dog": 1, "fish": 2}},
        {"class_indices": {"cat": 0, "dog": 1, "fish": 2}},
        [{"id": 2, "name": "fish"}, {"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        {"categories": [{"name": "cat"}, {"name": "dog"}, {"name": "fish"}]},
    ],
)
def test_more_json_files(tmp_path, data):
    assert load_labels(written(tmp_path, "labels.json", json.dumps(data))) == PETS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    assert load_labels(written(tmp_path, "l.txt", "chien\nforêt", encoding)) == ["chien", "forêt"]
