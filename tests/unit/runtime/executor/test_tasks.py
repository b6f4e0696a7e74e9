import pytest

from edgeprune.errors import DeviceError, EdgePruneError, ModelError, ProtocolError, UsageError
from edgeprune.runtime.executor import open_executor
from edgeprune.runtime.executor.inline import InlineExecutor
from edgeprune.runtime.executor.processes import ProcessExecutor
from edgeprune.runtime.executor.tasks import Reply, perform, perform_encoded, resolve, result_of, task_versions


@pytest.mark.parametrize(
    "function",
    ["os:system", "edgeprune.api:run", "edgeprune.artifacts:hash_file", "builtins:eval", "", ":", "no_colon",
     "edgeprune.compress.evaluate:__import__", "edgeprune.compress.evaluate:forget"],
)  # fmt: skip
def test_only_listed_functions_are_run(function: str) -> None:
    with pytest.raises(UsageError, match="is not a function that workers run"):
        resolve(function)
    reply = perform(function, b"touch /tmp/x")
    assert (reply.result, reply.error) == (None, "UsageError")


def test_an_error_keeps_its_class_message_and_exit_code() -> None:
    with pytest.raises(ModelError, match=r"^the weights are damaged$") as caught:
        result_of(Reply(error="ModelError", message="the weights are damaged"))
    assert caught.value.exit_code == 3


def test_a_class_named_from_outside_is_never_more_than_an_error_of_ours() -> None:
    for name in ("SystemExit", "ExitCode", "IntEnum", "__builtins__", ""):
        with pytest.raises(EdgePruneError) as caught:
            result_of(Reply(error=name, message="no"))
        assert type(caught.value) is DeviceError


def test_a_worker_of_another_version_refuses_before_it_works() -> None:
    import msgspec

    here = task_versions()
    reply = msgspec.msgpack.decode(perform_encoded("os:system", b"", here | {"edgeprune": "0.0.1"}), type=Reply)
    assert reply.error == "ProtocolError"
    assert f"edgeprune {here['edgeprune']} for 0.0.1" in reply.message
    assert "torch" not in reply.message
    with pytest.raises(ProtocolError):
        result_of(reply)


def test_one_worker_is_this_process_and_more_are_others() -> None:
    assert isinstance(open_executor(), InlineExecutor)
    several = open_executor(workers=3)
    assert isinstance(several, ProcessExecutor)
    assert several.worker_count == 3
    assert several.worker_pids == (), "processes start when there is work"
    several.close()


def test_refuses_no_workers_and_two_places_at_once() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        open_executor(workers=0)
    with pytest.raises(UsageError, match="exclude each other"):
        open_executor(workers=2, cluster="tcp://127.0.0.1:8786")
