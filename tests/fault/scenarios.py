# SPDX-License-Identifier: Apache-2.0
"""What inject does to Lodge.  A scenario is a command in a folder of files made once; or requests to a machine."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import time

import page as pages

RUN = ["run", "--engine", "soft", "--memory", "16M", "--device", "testdev", "--quiet", "--kernel",
       "@BUILD@/tests/system/lifecycle.elf", "--append"]
END = RUN + ["e"]  # by debug exit, status 43
STAY = RUN + ["h"]


def until(true, limit):
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Scenario:
    def __init__(self, name, command, **more):
        self.name, self.command = name, command
        self.verb = command[0]          # in which of Lodge's processes
        self.template = "files"         # what it begins with
        self.kinds = pages.ALL
        self.good_statuses = (0, 43, 1) if command[0] == "run" else (0,)
        self.bad_statuses = (1, 2)
        self.most_lines = 1             # that say why it failed
        self.same_output = True         # success prints what it always prints
        self.makes = ()                 # files that success leaves
        self.leaves = ()                # files that failure may leave
        self.again = False              # after failure the same command works, and leaves what it always leaves;
        #                                 "for good": so it is where nothing is to be had for its tidying up
        self.own_words = False          # what it prints says what is missing
        self.port = False               # takes a free port of the host: one at a time, and none of the sample
        self.verify = self.sound = None  # after success, after failure
        self.requests = None
        for key, value in more.items():
            setattr(self, key, value)

    def may_make(self, name):
        return any(name == m or (m.endswith("*") and name.startswith(m[:-1])) for m in self.makes)

    def may_leave(self, name):
        return any(name == m or (m.endswith("*") and name.startswith(m[:-1])) for m in self.leaves)

    def alive(self, run):
        try:
            return ask(run, "GET", "vm.info").status == 200
        except OSError:
            return False


# ---- disk images ----------------------------------------------------------

def plain(run, *command):
    """Lodge as it is, without faults."""
    return subprocess.run([run.setup.lodge, *command], cwd=run.work, env=run.environment(False), stdin=subprocess.DEVNULL,
                          capture_output=True)


def sound(image, leaks=True):
    """Clusters nobody uses may be left by what failed; anything else is damage."""
    def check(run):
        return plain(run, "disk", "check", image).returncode in ((0, 3) if leaks else (0,))
    return check


def same_as(image, raw):
    """The image is consistent and reads as that raw file."""
    def check(run):
        if image.endswith("qcow2") and plain(run, "disk", "check", image).returncode:
            return False
        copy = os.path.join(run.top, "copy")
        if plain(run, "disk", "convert", "-f", "raw" if image.endswith("raw") else "qcow2", image, copy).returncode:
            return False
        with open(copy, "rb") as a, open(os.path.join(run.work, raw), "rb") as b:
            same = a.read() == b.read()
        os.unlink(copy)
        return same
    return check


def disk(name, *command, **more):
    return Scenario("disk_" + name, ["disk", *command], **more)


def disks():
    made = dict(makes=("new.qcow2", "new.raw"))
    return [
        disk("create", "create", "-f", "qcow2", "new.qcow2", "8M", verify=sound("new.qcow2", False), **made),
        disk("create_metadata", "create", "-f", "qcow2", "-o", "preallocation=metadata", "new.qcow2", "8M",
             verify=sound("new.qcow2", False), **made),
        disk("create_over", "create", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "new.qcow2",
             verify=same_as("new.qcow2", "a.raw"), **made),
        disk("create_raw", "create", "new.raw", "1M", **made),
        disk("info", "info", "over.qcow2"),
        disk("info_json", "info", "--json", "--backing-chain", "over.qcow2"),
        disk("check", "check", "a.qcow2"),
        disk("check_repair", "check", "-r", "all", "leaky.qcow2", verify=sound("leaky.qcow2", False), sound=sound("leaky.qcow2"),
             bad_statuses=(1, 2, 3)),
        disk("to_raw", "convert", "-O", "raw", "over.qcow2", "new.raw", verify=same_as("new.raw", "over.raw"), **made),
        disk("to_qcow2", "convert", "-O", "qcow2", "over.raw", "new.qcow2", verify=same_as("new.qcow2", "over.raw"), **made),
        disk("resize", "resize", "a.qcow2", "300M", verify=sound("a.qcow2", False), sound=sound("a.qcow2")),
        disk("shrink", "resize", "--shrink", "a.qcow2", "1M", verify=sound("a.qcow2"), sound=sound("a.qcow2")),
        disk("snapshot_list", "snapshot", "-l", "snap.qcow2"),
        disk("snapshot_create", "snapshot", "-c", "two", "snap.qcow2", verify=sound("snap.qcow2", False), sound=sound("snap.qcow2")),
        disk("snapshot_apply", "snapshot", "-a", "one", "snap.qcow2", verify=same_as("snap.qcow2", "a.raw"),
             sound=sound("snap.qcow2")),
        disk("snapshot_delete", "snapshot", "-d", "one", "snap.qcow2", verify=sound("snap.qcow2", False), sound=sound("snap.qcow2")),
        disk("commit", "commit", "over.qcow2", verify=same_as("a.qcow2", "over.raw"), sound=sound("a.qcow2")),
        disk("rebase", "rebase", "-b", "", "over.qcow2", verify=same_as("over.qcow2", "over.raw"), sound=sound("over.qcow2")),
        disk("wrong_option", "create", "-f", "qcow2", "-o", "cluster_sise=4k", "new.qcow2", "8M", good_statuses=(2,)),
        disk("missing", "info", "missing.qcow2", good_statuses=(1,)),
    ]


# ---- machines -------------------------------------------------------------

def run(name, *options, end=END, **more):
    return Scenario("run_" + name, end + list(options), **more)


def machines():
    images = ["--disk", "over.qcow2", "--disk", "a.raw,format=raw,bus=ide", "--disk", "snap.qcow2,bus=ahci,snapshot=on",
              "--cdrom", "cd.raw", "--cdrom", "none,bus=ahci", "--floppy", "floppy.raw"]
    kept = sound("over.qcow2", False)
    screen = ["--display", "vnc:unix:vnc"]
    devices = ["--share", "folder:tag", "--console", "file:console", "--vsock", "vsock", "--rng", "--balloon", "--input", "keyboard",
               "--input", "tablet:unix:tablet", "--usb", "tablet", "--parallel", "file:printed", "--device", "pvpanic",
               "--device", "pvpanic-pci", "--device", "i6300esb"]
    files = ("console", "printed", "serial", "io", "stats", "packets")
    refused = dict(good_statuses=(2,))
    return [
        run("plain"),
        run("power_off", end=RUN + ["o"]),
        run("reset", "--cpus", "4", "--code-cache", "16M,after=0", end=RUN + ["c"]),
        run("serial", "--serial", "file:serial", "--serial", "unix:line", "--serial", "null", makes=files, leaves=files),
        run("disks", *images, verify=kept, sound=kept),
        run("disks_queues", "--disk", "over.qcow2,cache=none,queues=2", "--disk", "leaky.qcow2,discard=on,errors=stop", verify=kept, sound=kept),
        run("net_none", "--net", "none", "--net", "none,model=e1000"),
        run("net_user", "--net", "user", "--net", "user,model=e1000,pcap=packets", makes=files, leaves=files),
        run("net_user_inside", "--net", "user", verb="netd"),
        run("net_switch", "--net", "switch:s", makes=("run/lodge*",), leaves=("run/lodge", "run/lodge/switch-s.lock")),
        run("net_switch_inside", "--net", "switch:s", verb="netd", makes=("run/lodge*",), again="for good",
            leaves=("run/lodge", "run/lodge/switch-s.lock")),
        run("screen", *screen),
        run("screen_inside", *screen, verb="displayd"),
        run("screen_password", "--display", "vnc:unix:vnc,password=password", verb="displayd"),
        run("api", "--api-socket", "api.sock"),
        run("share_inside", "--share", "folder:tag", verb="folderd"),
        run("devices", *devices, makes=files, leaves=files),
        run("micro", "--machine", "micro", "--disk", "over.qcow2", "--net", "user", "--rng", "--balloon", "--console", "null", "--share",
            "folder:tag", "--vsock", "vsock", verify=kept, sound=kept),
        run("reports", "--trace", "io:io", "--stats=json:stats", "--perf-map", makes=files, leaves=files),
        run("guest_smp", end=["run", "--engine", "soft", "--device", "testdev", "--quiet", "--memory", "64M", "--cpus", "4",
                              "--code-cache", "1M,after=0", "--kernel", "@BUILD@/tests/guest/smp.elf"]),
        run("wrong_option", "--memroy", "1G", **refused),
        run("wrong_disk", "--disk", "missing.qcow2", **refused),
        run("wrong_image", "--disk", "floppy.raw,format=qcow2", **refused),
        run("wrong_net", "--net", "bogus", **refused),
        run("wrong_net_option", "--net", "user,hostfwd=tcp:x", **refused),
        run("wrong_cpu", "--cpu", "host,+bogus", **refused),
        run("wrong_kernel", end=["run", "--engine", "soft", "--kernel", "a.qcow2"], **refused),
        run("firmware", "--disk", "a.raw,format=raw", end=["run", "--engine", "soft", "--firmware", "floppy.raw"], **refused),
    ]


# ---- images of systems ----------------------------------------------------

STORE = ("data/lodge", "data/lodge/images", "data/lodge/vms", "data/lodge/images/.lock", "data/lodge/vms/.lock", "data/lodge/.lock",
         "run/lodge")


def store():
    over = ["--engine", "soft", "--memory", "16M", "--cpus", "1", "--device", "testdev", "--quiet", "--kernel",
            "@BUILD@/tests/system/lifecycle.elf", "--append", "e"]
    return [
        Scenario("image_ls", ["image", "ls"], template="store", same_output=True),
        Scenario("image_ls_json", ["image", "ls", "--json"], template="store"),
        Scenario("image_import", ["image", "import", "snap.qcow2", "--format", "qcow2", "--name", "new"], template="store", makes=STORE + ("data/lodge/*",),
                 leaves=STORE, again=True),
        Scenario("image_rm", ["image", "rm", "small"], template="store", again=True),
        Scenario("image_run", ["run", "small"] + over, template="store", good_statuses=(43,), makes=STORE, leaves=STORE, again=True,
                 port=True, most_lines=2),
        Scenario("image_run_keep", ["run", "small", "--keep", "kept"] + over, template="store", good_statuses=(43,),
                 makes=STORE + ("data/lodge/vms/kept*",), leaves=STORE, again=True, port=True),
    ]


def others():
    return [
        Scenario("doctor", ["doctor"], same_output=False, own_words=True),
        Scenario("doctor_json", ["doctor", "--json"], same_output=False, own_words=True),
        Scenario("help", ["help", "run"]),
        Scenario("unknown_verb", ["imagge"], good_statuses=(2,)),
    ]


# ---- requests to a machine ------------------------------------------------

class Answer:
    def __init__(self, status, body, good, closed=False):
        self.status, self.body, self.good, self.closed = status, body, good, closed
        self.refused = status is not None and status >= 400
        self.text = "%s %s" % (status, body[:300])


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(run, method, name, body=None, wanted=None):
    c = Unix(os.path.join(run.work, "api.sock"))
    try:
        c.request(method, "/api/v1/" + name, json.dumps(body) if body is not None else None, {"Connection": "close"})
        r = c.getresponse()
        data = r.read()
        return Answer(r.status, data, r.status == wanted if wanted else 200 <= r.status < 300)
    except (http.client.HTTPException, OSError) as e:
        return Answer(None, repr(e).encode(), False, closed=True)
    finally:
        c.close()


class Request:
    def __init__(self, method, name, body=None, undo=None, called=None, stable=False, wanted=None):
        self.method, self.call, self.body, self.undone, self.stable = method, name, body, undo, stable
        self.name = called or name
        self.wanted, self.first = wanted, None

    def __call__(self, run):
        a = ask(run, self.method, self.call, self.body, self.wanted)
        if self.stable and a.good:
            part = a.body if self.stable is True else a.body[:self.stable]
            self.first = self.first or part
            if part != self.first:
                return Answer(a.status, b"not what it was: " + a.body, False)
        return a

    def undo(self, run):
        if self.undone:
            ask(run, *self.undone)


PNG_HEADER = 33  # signature and IHDR; the cursor blinks


def requests():
    def change(device, path):
        return {"device": device, "path": path, "force": True}
    no_cd = ("PUT", "vm.change-media", change("cdrom0", None))
    no_floppy = ("PUT", "vm.change-media", change("floppy1", None))
    calls = [
        Request("GET", "vmm.ping"),
        Request("GET", "vm.info", stable=True),
        Request("GET", "vm.screenshot", stable=PNG_HEADER),
        Request("GET", "vm.screen-text", stable=True),
        Request("PUT", "vm.send-key", {"keys": ["bogus"]}, wanted=400),
        Request("PUT", "vm.type", {"text": 1}, wanted=400),
        Request("PUT", "vm.bogus", wanted=404),
        Request("PUT", "vm.pause", undo=("PUT", "vm.resume")),
        Request("PUT", "vm.change-media", change("cdrom0", "cd.raw"), undo=no_cd, called="cdrom"),
        Request("PUT", "vm.change-media", change("cdrom0", "a.qcow2"), called="cdrom no disc", wanted=400),
        Request("PUT", "vm.change-media", change("floppy1", "other.raw"), undo=no_floppy, called="floppy"),
        Request("PUT", "vm.change-media", change("floppy0", None), undo=("PUT", "vm.change-media", change("floppy0", "floppy.raw")),
                called="floppy out"),
    ]
    return [Scenario("api", STAY + ["--api-socket", "api.sock", "--display", "vnc:unix:vnc", "--cdrom", "none", "--floppy", "floppy.raw",
                                    "--floppy", "none", "--disk", "over.qcow2", "--net", "none"], requests=calls)]


# ---- all of them, and their files ------------------------------------------

def prepare(setup):
    at = os.path.join(setup.template, "files")
    os.makedirs(os.path.join(at, "folder"))

    def lodge(*command, where=at, status=0, **environment):
        r = subprocess.run([setup.lodge, *command], cwd=where, env=dict(os.environ, **environment), capture_output=True, text=True)
        if r.returncode != status:
            raise SystemExit("lodge %s: %s" % (" ".join(command), r.stderr))

    def file(name, size, pieces):
        with open(os.path.join(at, name), "wb") as f:
            f.truncate(size)
            for offset, data in pieces:
                f.seek(offset)
                f.write(data)

    file("a.raw", 4 << 20, [(i * 300000, bytes([i + 1]) * 70000) for i in range(13)])
    lodge("disk", "convert", "-O", "qcow2", "-o", "cluster_size=4k", "a.raw", "a.qcow2")
    shutil.copy(os.path.join(at, "a.qcow2"), os.path.join(at, "snap.qcow2"))
    lodge("disk", "snapshot", "-c", "one", "snap.qcow2")
    lodge("disk", "create", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "over.qcow2")
    lodge("disk", "convert", "-O", "raw", "over.qcow2", "over.raw")
    # A refcount of 1 that nobody uses: the image grew and its new cluster was never linked.
    shutil.copy(os.path.join(at, "a.qcow2"), os.path.join(at, "leaky.qcow2"))
    leak(os.path.join(at, "leaky.qcow2"))
    file("cd.raw", 1 << 20, [(0x8001, b"CD001")])
    file("floppy.raw", 1440 << 10, [])
    file("other.raw", 720 << 10, [])
    file("password", 0, [(0, b"secret\n")])
    os.chmod(os.path.join(at, "password"), 0o600)
    with_store = os.path.join(setup.template, "store")
    shutil.copytree(at, with_store)
    lodge("image", "import", "a.raw", "--format", "raw", "--name", "small", where=with_store, XDG_DATA_HOME=os.path.join(with_store, "data"),
          HOME=with_store)


def leak(path):
    with open(path, "r+b") as f:
        header = f.read(104)
        cluster = 1 << int.from_bytes(header[20:24], "big")
        table = int.from_bytes(header[48:56], "big")
        f.seek(table)
        block = int.from_bytes(f.read(8), "big")
        f.seek(0, 2)
        n = (f.tell() + cluster - 1) // cluster
        f.truncate((n + 1) * cluster)
        f.seek(block + 2 * n)
        f.write(b"\0\1")


def everything(setup):
    prepare(setup)
    return machines() + disks() + store() + others() + requests()
