import pytest
from detectron2.engine import default_argument_parser

from yolor_d2.engine.launch.arguments import argument_parser

SWITCHES = {"deterministic", "check_cluster", "allow_config_change", "overwrite"}
OURS = {*SWITCHES, "modules"}


def test_flags_of_detectron2_are_unchanged():
    line = ["--config-file", "c.yaml", "--resume", "--num-gpus", "8", "--num-machines", "2"]
    line += ["--machine-rank", "1", "--dist-url", "tcp://host:1", "SOLVER.BASE_LR", "-1"]
    ours = vars(argument_parser().parse_args(line))
    theirs = vars(default_argument_parser().parse_args(line))
    assert {name: value for name, value in ours.items() if name not in OURS} == theirs
    assert not any(ours[name] for name in OURS)


def test_help_lists_all_flags_and_the_examples(capsys):
    with pytest.raises(SystemExit):
        argument_parser().parse_args(["--help"])
    text = capsys.readouterr().out
    assert "--eval-only" in text
    assert "--allow-config-change" in text
    assert "Run on multiple machines:" in text


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_our_flags(name):
    flag = "--" + name.replace("_", "-")
    for line in ([flag, "--config-file", "c"], ["--config-file", "c", flag, "KEY", "value"]):
        assert vars(argument_parser().parse_args(line))[name] is True


def test_keys_without_flags():
    assert argument_parser().parse_args(["KEY", "-1", "OTHER", ""]).opts == [
        "KEY",
        "-1",
        "OTHER",
        "",
    ]
    assert argument_parser().parse_args([]).opts == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["--config-file", "c", "KEY", "1", "--resume"], "--resume must come before KEY"),
        (["train.lr=1", "--evalonly"], "--evalonly must come before train.lr=1"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
    ],
)
def test_errors_that_argparse_does_not_find(line, error, capsys):
    with pytest.raises(SystemExit) as end:
        argument_parser().parse_args(line)
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(f": error: {error}")


def test_mistyped_flag_before_keys(capsys):
    with pytest.raises(SystemExit):
        argument_parser().parse_args(["--config-file", "c", "--evalonly", "KEY", "1"])
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --evalonly\n")
