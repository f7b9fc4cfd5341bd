"""The command line as other people's tools call it: real processes, exit codes, and what goes where."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from memshell.__main__ import main

MEMSHELL = [sys.executable, "-m", "memshell"]


def run(*args, stdin="", **environment):
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment}
    return subprocess.run(
        [*MEMSHELL, *args], input=stdin, capture_output=True, text=True, env=env, timeout=60, check=False
    )


@pytest.fixture
def scenario(tmp_path):
    def write(text, name="a.mem"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


OF_THE_SERIES = "it is a feature of rfc-2017, rfc-2018, rfc-v2-2019, patch-v1-2019"


@pytest.mark.parametrize(
    "args, code, error",
    [
        (["-c", "true"], 0, ""),
        (["-c", "use x86_64 ram=2G; expect blocks.online == 16"], 0, ""),
        (["-c", "use x86_64 ram=2G; expect blocks.online == 17"], 1, "-c:1: expect failed: blocks.online == 17"),
        (["-c", "undo"], 1, "there is no machine yet; start one with: use x86_64 ram=2G"),
        (["-c", "tru"], 2, "unknown command 'tru'; did you mean true?"),
        (["-c", "expect"], 2, "-c:1:7: expected an expression"),
        (["-c", "use x86_46"], 2, "unknown architecture 'x86_46'; did you mean x86_64?"),
        (["-c", "use x86_64 rm=2G"], 2, "unknown key 'rm'; did you mean 'ram'?"),
        (["-c", "use x86_64 ram=2Q"], 2, "'2Q' is not a size"),
        (["-c", "use x86_64 memmap_on_memory=Y; add 128M; expect block.32.vmemmap_pages == 512"], 0, ""),
        (["-c", "use x86_64 memmap_on_memroy=Y"], 2, "did you mean 'memmap_on_memory'?"),
        (["-c", "use x86_64 memmap_on_memory=Y policy=buddy"], 2, "give one of them"),
        (["-c", "use x86_64 ram=1E"], 2, "addresses of 46 bits"),
        (["-c", "use s390 standby=1E"], 2, "addresses of 46 bits"),
        (["-c", "use x86_64 nodes=0"], 2, "nodes=0 cannot be; a whole number from 1 to 1024"),
        (["-c", "use powerpc nodes=two"], 2, "nodes=two cannot be; a whole number from 1 to 256"),
        (["-c", "use x86_64; policy memap_on_memory"], 2, "did you mean memmap_on_memory?"),
        (["-c", "use x86_64; profile 6.13; expect profile == 'v6.12'"], 0, ""),
        (["-c", "use x86_64 profile=6.12.107+deb13; expect profile == 'v6.12'"], 0, ""),
        (["-c", "use x86_64; profile v4.19"], 2, "no profile is as old as v4.19; v5.10 is the oldest"),
        (["-c", "use x86_64 profile=rfc2018"], 2, "unknown profile 'rfc2018'; did you mean 'rfc-2018'?"),
        (["-c", "use x86_64 profile=v5.10 online_policy=auto-movable"], 2, "the kernel v5.10 has no online_policy"),
        (["-c", "use x86_64 profile=v5.10; set memmap_on_memory=Y"], 2, "the kernel v5.10 has no memmap_on_memory"),
        (["-c", "use x86_64 memmap_on_memory=Y profile=v5.10"], 2, "no memmap_on_memory; it came with v5.13"),
        (["-c", "use x86_64; set auto_movable_ratoi=3"], 2, "did you mean auto_movable_ratio?"),
        (["-c", "use x86_64; set check.s390_veto off"], 2, f"kernel v6.12 has no check.s390_veto; {OF_THE_SERIES}"),
        (["-c", "use x86_64 profile=v6.1 vmemmap.mark=never"], 2, f"kernel v6.1 has no vmemmap.mark; {OF_THE_SERIES}"),
        (["-c", "use x86_64; expect feature.check.s390_veto"], 2, f"v6.12 has no check.s390_veto; {OF_THE_SERIES}"),
        (["-c", "use x86_64 profile=rfc-2018; set check.s390_veto no; expect not feature.check.s390_veto"], 0, ""),
        (
            ["-c", "use x86_64 profile=rfc-2018 vmemmap.mark=nevr"],
            2,
            "vmemmap.mark=nevr cannot be; did you mean 'never'?",
        ),
        (["-c", "use x86_64; set node_notifier maybe"], 2, "node_notifier is on or off, not 'maybe'"),
        (["-c", "use x86_64; set nod_notifier on"], 2, "unknown setting 'nod_notifier'; did you mean node_notifier?"),
        (["-c", "history --vertcal"], 2, "did you mean --vertical?"),
        (["-c", "use x86_64; policy -F jsn"], 2, "unknown format 'jsn'"),
        (["-c", "use x86_64; history -o STPE"], 2, "unknown column 'STPE'"),
        (["rn"], 2, "unknown mode 'rn'; did you mean run?"),
        (["run", "nosuch.mem"], 2, "no scenario nosuch.mem: no such file; a file, or one of memshell's own, such as"),
        (["run", "e30"], 2, "no scenario e30: no such file; did you mean experiments/E30?"),
        (["--nosuch"], 2, "memshell"),
        (["verify"], 2, "the following arguments are required: RECORDING; memshell verify --help shows how"),
        (["-c", "true", "false"], 2, "unexpected 'false' behind -c"),
    ],
)
def test_exit_codes_and_messages(args, code, error, capsys):
    assert main(args) == code
    told = capsys.readouterr().err
    assert error in told
    assert "Traceback" not in told
    if code:
        assert "expect failed" in told or len(told.splitlines()) <= 2, told


@pytest.mark.parametrize(
    "args, code, error",
    [
        (["-c", "true"], 0, ""),
        (["-c", "undo"], 1, "there is no machine yet"),
        (["-c", "tru"], 2, "unknown command 'tru'; did you mean true?"),
    ],
)
def test_the_process_ends_with_the_code_and_the_line(args, code, error):
    done = run(*args)
    assert (done.returncode, error in done.stderr, done.stderr.count("\n")) == (code, True, bool(error))


def test_results_go_to_stdout_and_everything_else_to_stderr():
    done = run("-c", "use x86_64 ram=2G; history -F json; tru")
    assert done.stdout.startswith("x86_64, ")
    assert "unknown command" not in done.stdout
    assert json.loads(done.stdout[done.stdout.index("[") :])[0]["step"] == 0


@pytest.mark.slow
def test_a_form_for_the_whole_run_leaves_only_data_on_stdout():
    done = run("-F", "json", "-c", "use x86_64 ram=2G; add 1G; history")
    assert [step["step"] for step in json.loads(done.stdout)] == [0, 1]
    assert done.stderr.startswith("x86_64, 2G")
    assert run("-F", "csv", "-c", "use x86_64 ram=2G; history").stdout.startswith("STEP,OUTCOME,")


def test_a_script_on_standard_input_stops_at_its_first_error_with_its_line():
    done = run(stdin="true\nuse x86_64 ram=2G\n\nexpect step == 1\npolicy\n")
    assert done.returncode == 1
    assert done.stderr.startswith("<stdin>:4: expect failed: step == 1")
    assert "memmap_on_memory" not in done.stdout
    assert "\x1b" not in done.stdout
    assert "memshell>" not in done.stdout


@pytest.mark.slow
def test_keep_going_plays_the_rest_and_still_fails():
    done = run("--keep-going", stdin="expect 1 == 2\nuse x86_64 ram=2G\nexpect 3 == 4\n")
    assert done.returncode == 1
    assert done.stdout.startswith("x86_64")
    assert "<stdin>:1:" in done.stderr
    assert "<stdin>:3:" in done.stderr


def test_blocks_on_standard_input_span_lines():
    done = run(stdin="let n = 0\nrepeat 3 as i\n  let n = $n + 1\nend\nexpect $n == 3\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_each_line_of_standard_input_is_answered_before_the_next_comes():
    # A program that talks to memshell through pipes must not have to close its end first.
    with subprocess.Popen(MEMSHELL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write("use x86_64 ram=2G\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("x86_64")
        process.stdin.close()
        assert process.wait(10) == 0


def test_run_json_prints_one_object_for_each_step(scenario):
    path = scenario("use x86_64 ram=2G\npolicy memmap_on_memory\n! undo 7\nexpect step == 1\nexpect step == 9\n")
    done = run("run", "--json", path)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    keys = ["n", "file", "line", "command", "ok", "errno", "message", "output", "events", "crashed", "parameters"]
    assert all(list(step) == keys for step in steps)
    assert [(step["n"], step["line"], step["ok"]) for step in steps] == [
        (1, 1, True),
        (2, 2, True),
        (3, 3, True),
        (4, 4, True),
        (5, 5, False),
    ]
    assert steps[1]["output"] == "policy memmap_on_memory\n"
    assert "expect failed" in steps[4]["message"]
    assert done.returncode == 1


def test_run_plays_every_file_on_a_fresh_machine(scenario):
    done = run("run", scenario("use x86_64 ram=2G\n"), scenario("! undo\n", "b.mem"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_test_mode_writes_junit_and_ktap(scenario, tmp_path):
    path = scenario("subtest a\ntrue\nend\n")
    done = run("test", "--ktap", "--junit", str(tmp_path / "j.xml"), path)
    assert done.stdout.splitlines()[-1] == f"ok 1 {path}", done
    assert '<testcase name="a"' in (tmp_path / "j.xml").read_text()
    assert run("test", "-j", "2", path, scenario("expect 1 == 2\n", "b.mem")).returncode == 1


def test_update_is_refused_under_ci(scenario):
    done = run("test", "--update", scenario("true\n"), CI="true")
    assert (done.returncode, "refused under CI" in done.stderr) == (2, True)


@pytest.mark.slow
def test_ctrl_c_ends_a_script_with_130(scenario):
    path = scenario("use x86_64 ram=2G\nrepeat 1000000000\ntrue\nend\n")
    with subprocess.Popen([*MEMSHELL, "run", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_a_reader_that_goes_away_is_no_error():
    line = f"{sys.executable} -m memshell -c 'repeat 3000; help; end' | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_input_that_is_no_text(tmp_path):
    (tmp_path / "bad.mem").write_bytes(b"true\n\xff\xfe\n")
    done = run("run", str(tmp_path / "bad.mem"))
    assert (done.returncode, "is not UTF-8 text (byte 5)" in done.stderr) == (2, True)


@pytest.mark.slow
def test_plugins_mode():
    found = {item["name"]: item for item in json.loads(run("plugins", "--json").stdout)}
    assert found["x86_64"]["state"] == "loaded"
    assert "memshell_arches" in found["x86_64"]["hooks"]
    assert "MS" in run("plugins", "--time").stdout


def test_version_and_help():
    assert run("--version").stdout.startswith("memshell ")
    assert "memshell run FILE... [-D NAME=VALUE]" in run("--help").stdout


@pytest.mark.slow
def test_debug_shows_the_traceback():
    done = run("--debug", "-c", "undo")
    assert "Traceback" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110 - one call
@pytest.mark.parametrize(
    "args", [["-c", "use x86_64; lsmem"], ["run", "--json", "tutorial/first"], ["plugins"], ["--version"]]
)
def test_a_full_disk_is_no_crash(args):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*MEMSHELL, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in done.stderr


def test_a_scenario_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.mem").write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}use x86_64\n".encode())
    assert run("run", str(tmp_path / "a.mem")).returncode == 0


@pytest.mark.slow
def test_a_scenario_is_a_matrix_of_tests_for_ci(scenario, tmp_path):
    path = scenario(
        "# matrix: policy=buddy,memmap_on_memory\nlet size ?= 1G\nuse x86_64 ram=2G policy=$policy\nadd $size\n"
    )
    done = run("test", "-D", "size=512M", "--junit", str(tmp_path / "j.xml"), path, size="4G")
    assert (done.returncode, done.stdout.count("ok "), done.stderr) == (0, 2, "")
    assert "a.mem[policy=memmap_on_memory]" in (tmp_path / "j.xml").read_text()
    assert run(path, "-D", "sise=1G").returncode == 2
    assert "512M at" in run("run", path, "-D", "size=512M", "-D", "policy=buddy").stdout
