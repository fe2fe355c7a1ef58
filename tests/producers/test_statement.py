"""What a source states, in groups of settings."""

from onnx_xcam.images import PRESETS, Preprocess
from onnx_xcam.producers.statement import GROUPS, Statement


def test_every_setting_is_in_one_group():
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(Preprocess().to_dict())


def test_a_whole_statement_states_all_but_what_is_left_open():
    statement = Statement.whole("the argument", PRESETS["caffe"])
    assert [group for group in GROUPS if not statement.states(group)] == ["size", "layout"]
    assert Preprocess(**statement.settings) == PRESETS["caffe"]


def test_a_group():
    statement = Statement.of("x", {"mean": 0.5, "channels": "bgr"})
    assert statement.group("values") == {"mean": (0.5,)}
    assert statement.group("channels") == {"channels": "BGR"}
    assert not statement.states("geometry")
