"""A QEMU for tests: its monitor, and the guest's real shell over a tree that the model wrote.

MEMSHELL_FAKE_TREE is the tree, MEMSHELL_FAKE_DIES a command that the "kernel" dies of, with MEMSHELL_FAKE_HANGS
its shell never gets ready.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def argument(word):
    """Return the path= of the argument that contains *word*."""
    text = next(a for a in sys.argv if word in a)
    return text.partition("path=")[2].partition(",")[0] or text.partition("unix:")[2].partition(",")[0]


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    return server


def answer(name, arguments):
    if name == os.environ.get("MEMSHELL_FAKE_DIES"):
        folder = Path(argument("id=agent")).parent
        (folder / "console.log").write_text("[    9.1] kernel BUG at mm/fake.c:1!\n[    9.2] end of it\n")
        os._exit(0)
    if name == "device_add":
        return {"error": {"class": "GenericError", "desc": "no slot is free"}}
    return {"return": {}}


def main():
    if "kvm" in sys.argv:
        sys.exit("no kvm in a test")
    monitor, agent = listen(argument("unix:")), listen(argument("id=agent"))
    port, _ = agent.accept()
    script = Path(__file__).parents[2] / "memshell" / "lab" / "agent.sh"
    environment = {"PATH": os.environ["PATH"], "LAB_ROOT": os.environ["MEMSHELL_FAKE_TREE"]}
    shell = ["sleep", "60"] if "MEMSHELL_FAKE_HANGS" in os.environ else ["sh", str(script)]
    subprocess.Popen(shell, stdin=port, stdout=port, stderr=port, env=environment)
    port.close()
    qmp, _ = monitor.accept()
    greeting = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
    out = qmp.makefile("w")
    print(json.dumps(greeting), file=out, flush=True)
    for message in messages(qmp):
        reply = answer(message["execute"], message.get("arguments", {}))
        print(json.dumps({**reply, **({"id": message["id"]} if "id" in message else {})}), file=out, flush=True)


def messages(port):
    """Yield the JSON objects that come, with or without a line end between them."""
    pending = ""
    while data := port.recv(1 << 16):
        pending += data.decode()
        while pending.strip():
            try:
                message, end = json.JSONDecoder().raw_decode(pending.lstrip())
            except json.JSONDecodeError:
                break
            pending = pending.lstrip()[end:]
            yield message


main()
