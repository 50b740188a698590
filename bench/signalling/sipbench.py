#!/usr/bin/env python3
"""Signalling load bench for anything that carries SIP calls over UDP.

For each system under test (SUT) named in a TOML file it finds out

  ramp     the most calls a second carried with at most 0.1 % failed and next to
           no retransmission, and the CPU a call costs
  latency  what the SUT adds to call setup when idle, and the setup time the
           caller sees at given shares of the highest rate
  hold     the memory a standing call costs, and what is left after they end

SIPp plays both ends, the SUT alone has one CPU and SIPp the other, all on
loopback.  Every load run starts a fresh SUT, is bounded in time, and holds the
lock file (flock) so that two benches on one machine do not disturb each other.

  sipbench.py --suts suts.toml --only sippy,kamailio1 ramp latency hold

See README.md for the file's form and what the columns mean.
"""
# ruff: noqa: TID251, S108, SIM115 - a harness waits for other programs, and shares its lock file
import argparse
import contextlib
import csv
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
LOCK = "/tmp/bench.lock"


# ------------------------------------------------------------------ processes

def stat_fields(pid):
    """(ppid, session, user+system ticks) of a process, or None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    rest = text[text.rindex(")") + 2:].split()
    return int(rest[1]), int(rest[3]), int(rest[11]) + int(rest[12])


def family(leader):
    """The leader and every living process of its session (it was made leader)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields and (int(name) == leader or fields[1] == leader):
                found.append(int(name))
    return found


def cpu_ticks(pids):
    return sum(f[2] for f in map(stat_fields, pids) if f)


def everyone():
    """{pid: ticks} of every process on the machine."""
    return {int(n): f[2] for n in os.listdir("/proc") if n.isdigit() and (f := stat_fields(n))}


def memory(pids):
    """(proportional, resident) KiB over the processes; shared pages counted once
    in the first figure."""
    pss = rss = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif line.startswith("Rss:"):
                rss += int(line.split()[1])
    return pss, rss


def machine_ticks(cpu):
    """(idle, stolen) ticks of one CPU since boot.  Busy time is told from idle
    time: the kernel samples the former at its clock tick but measures the latter."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            v = list(map(int, line.split()[1:]))
            return v[3] + v[4], v[7]
    raise SystemExit(f"no CPU {cpu} here")


def socket_drops(address):
    """Datagrams the kernel dropped at UDP sockets bound to this address."""
    host, port = address
    want = {socket.inet_aton(host)[::-1].hex().upper(), "00000000"}
    drops = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        h, p = fields[1].split(":")
        if int(p, 16) == port and h in want:
            drops += int(fields[-1])
    return drops


def stop(process):
    """End a process we started, and what it started, by process id."""
    pids = family(process.pid)
    for sig, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            process.poll()
            if not [p for p in family(process.pid) if p != process.pid] \
                    and process.poll() is not None:
                return
            time.sleep(0.05)
        pids = family(process.pid)


@contextlib.contextmanager
def turn(path):
    """Hold the lock file that benches on this machine share."""
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


# ------------------------------------------------------------------ the bench

class Bench:
    def __init__(self, options, scratch):
        self.o = options
        self.scratch = Path(scratch)
        self.uas = address(options.uas)
        self.results = []
        self.runs = 0

    def pinned(self, cpu, argv):
        return ["nice", "-n", str(self.o.nice), "taskset", "-c", str(cpu), *argv]

    def probe(self, target, *more):
        argv = self.pinned(self.o.load_cpu, [sys.executable, str(HERE / "probe.py"), target, *more])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"calls": 0, "failed": 1, "stderr": done.stderr[-500:]}

    @contextlib.contextmanager
    def sut(self, entry):
        """The SUT running and carrying calls; yields (its pids, start-up seconds)."""
        if not entry.get("start"):
            yield [], 0.0
            return
        host, port = address(entry["listen"])
        work = self.scratch / f"{entry['name']}.{self.runs}"
        work.mkdir()
        words = {"host": host, "port": str(port), "uas_host": self.uas[0],
                 "uas_port": str(self.uas[1]), "here": str(HERE), "scratch": str(work),
                 "python": self.o.python}
        argv = [part.format(**words) for part in shlex.split(entry["start"])]
        env = dict(os.environ, **{k: str(v).format(**words)
                                  for k, v in entry.get("env", {}).items()})
        cpus = entry.get("cpu", self.o.sut_cpu)
        log = open(work / "output", "wb")
        begin = time.monotonic()
        process = subprocess.Popen(self.pinned(cpus, argv), env=env, cwd=work, stdout=log,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   start_new_session=True)
        try:
            while True:
                got = self.probe(entry["listen"], "--answer", self.o.uas,
                                 "--calls", "1", "--timeout", "0.5")
                if not got["failed"]:
                    break
                if process.poll() is not None or time.monotonic() - begin > self.o.patience:
                    log.flush()
                    tail = (work / "output").read_bytes()[-1500:].decode("utf-8", "replace")
                    raise RuntimeError(f"{entry['name']} carries no call:\n{tail}")
                time.sleep(0.1)
            ready = time.monotonic() - begin
            time.sleep(entry.get("settle", 0.5))
            yield family(process.pid), ready
        finally:
            stop(process)
            log.close()

    def load(self, *arguments, strict=False, **named):
        """A load run.  It is done again, a few times at most, if something else on
        the machine took CPU meanwhile, or the hypervisor did, and the run failed
        not plainly by itself (or `strict`: whatever its outcome)."""
        for left in range(self.o.again, -1, -1):
            f = self.load_once(*arguments, **named)
            overrun = f["sut_cpu_pct"] > 88 and (f["achieved"] or 0) < 0.9 * f["rate"]
            if f["lost_pct"] <= self.o.max_lost or not left \
                    or ((f["passed"] or overrun) and not strict):
                break
            self.show(f, "[disturbed, once more]")
            time.sleep(5)
        f["passed"], f["why"] = self.judge(f)
        self.results.append(f)
        if self.o.out:
            with open(self.o.out, "a") as handle:
                handle.write(json.dumps(f) + "\n")
        return f

    def load_once(self, entry, rate, seconds, hold_ms, calls=None, watch=None, probe=0.0):
        """One bounded SIPp run through the SUT.  `watch(pids, elapsed)` is called
        about twice a second; `probe` is how many calls a second the probe adds to
        time call setup.  Returns the figures of the run."""
        self.runs += 1
        work = self.scratch / f"run{self.runs}"
        work.mkdir()
        calls = calls or max(1, int(rate * seconds))
        budget = calls / rate + hold_ms / 1000 + self.o.drain
        target = entry["listen"] if entry.get("start") else self.o.uas
        common = ["-nostdin", "-timer_resol", "1", "-trace_stat", "-fd", "1",
                  "-trace_err", "-buff_size", "2000000", "-max_recv_loops", "2000", "-max_sched_loops", "2000",
                  "-watchdog_major_maxtriggers", "100000",
                  "-watchdog_minor_maxtriggers", "100000"]
        uas = self.pinned(self.o.load_cpu, [
            "sipp", "-sf", str(HERE / "uas.xml"), "-i", self.uas[0], "-p", str(self.uas[1]),
            "-stf", str(work / "uas.csv"), "-error_file", str(work / "uas.err"), *common])
        uac_host, uac_port = address(self.o.uac)
        uac = self.pinned(self.o.load_cpu, [
            "sipp", target, "-sf", str(HERE / "uac.xml"), "-i", uac_host, "-p", str(uac_port),
            "-s", "1000", "-d", str(int(hold_ms)), "-r", f"{rate:.0f}", "-m", str(calls),
            "-l", str(max(100, int(rate * (hold_ms / 1000 + 3)))), "-recv_timeout", "16000",
            "-trace_rtt", "-rtt_freq", "100",
            # carry on when a 180 comes after the 200: it happens, and phones bear it
            "-default_behaviors", "all,-abortunexp",
            "-stf", str(work / "uac.csv"), "-error_file", str(work / "uac.err"), *common])
        scenario_copy = work / "uac.xml"       # SIPp writes the response times beside it
        scenario_copy.write_text((HERE / "uac.xml").read_text())
        uac[uac.index("-sf") + 1] = str(scenario_copy)
        with turn(self.o.lock), self.sut(entry) as (pids, ready):
            leader = (pids and min(pids)) or None
            before_mem = memory(pids)
            called = subprocess.Popen(uas, cwd=work, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, start_new_session=True)
            try:
                time.sleep(0.4)
                drops = socket_drops(address(target))
                ticks, begin = cpu_ticks(pids), time.monotonic()
                others = everyone()
                busy = [machine_ticks(c) for c in (self.o.sut_cpu, self.o.load_cpu)]
                caller = subprocess.Popen(uac, cwd=work, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL, start_new_session=True)
                peak, prober, probed = before_mem, None, None
                try:
                    if probe:
                        prober = subprocess.Popen(self.pinned(self.o.load_cpu, [
                            sys.executable, str(HERE / "probe.py"), target, "--rate", str(probe),
                            "--calls", str(int(probe * (seconds - 2)))]), text=True,
                            stdout=subprocess.PIPE, start_new_session=True)
                    offered_for = calls / rate
                    mark = None        # ticks when the last call had been offered
                    while caller.poll() is None and time.monotonic() - begin < budget:
                        elapsed = time.monotonic() - begin
                        if mark is None and elapsed >= offered_for:
                            mark = (cpu_ticks(pids) - ticks, elapsed,
                                    [machine_ticks(c) for c in (self.o.sut_cpu, self.o.load_cpu)])
                        peak = max(peak, memory(pids))
                        if watch:
                            watch(pids, elapsed)
                        time.sleep(0.45)
                    finished = caller.poll() is not None
                    if prober:
                        try:
                            probed = json.loads(prober.communicate(timeout=15)[0])
                        except (ValueError, subprocess.TimeoutExpired):
                            probed = {"failed": "the probe itself"}
                finally:
                    stop(caller)
                    if prober:
                        stop(prober)
                used, wall = cpu_ticks(pids) - ticks, time.monotonic() - begin
                after = [machine_ticks(c) for c in (self.o.sut_cpu, self.o.load_cpu)]
                if mark is None:
                    mark = (used, wall, after)
                drops = socket_drops(address(target)) - drops
                time.sleep(3.2)      # the called side counts a call when its last wait is over
                # whatever else ran: started by nobody here, or not there before
                ours = {*pids, called.pid, caller.pid, os.getpid(), prober.pid if prober else 0}
                foreign = sum(t - others.get(pid, 0) for pid, t in everyone().items()
                              if pid not in ours)
                alive = not pids or stat_fields(leader) is not None
            finally:
                stop(called)
            after_mem = memory(pids)
        figures = self.read_counts(work)
        offered_wall = mark[1]
        done = figures["ok"] + (probed["calls"] - probed["failed"]
                                if probed and "calls" in probed else 0)
        figures.update(
            sut=entry["name"], rate=rate, calls=calls, hold_ms=hold_ms, finished=finished,
            alive=alive, ready_s=round(ready, 2), wall_s=round(wall, 2), drops=drops,
            sut_cpu_pct=round(100 * mark[0] / TICK / offered_wall, 1),
            cpu_us_per_call=round(1e6 * used / TICK / done) if done else None,
            cpu_busy_pct=[round(100 - 100 * (m[0] - b[0]) / TICK / offered_wall, 1)
                          for b, m in zip(busy, mark[2], strict=False)],
            probe=probed,
            # what the SUT's CPU did that was not the SUT: other processes, the hypervisor
            lost_pct=round(max(0.0, 100 - 100 * (mark[2][0][0] - busy[0][0]) / TICK / offered_wall
                               - 100 * mark[0] / TICK / offered_wall), 1),
            foreign_pct=round(100 * foreign / TICK / wall, 1),
            steal_pct=round(100 * sum(m[1] - b[1] for b, m in zip(busy, mark[2], strict=False))
                            / TICK / offered_wall, 2),
            pss_mib=[round(m[0] / 1024, 1) for m in (before_mem, peak, after_mem)],
            rss_mib=[round(m[1] / 1024, 1) for m in (before_mem, peak, after_mem)])
        figures["passed"], figures["why"] = self.judge(figures)
        return figures

    def read_counts(self, work):
        def last(name):
            try:
                with open(work / name, newline="") as handle:
                    rows = list(csv.DictReader(handle, delimiter=";"))
            except OSError:
                rows = []
            return rows

        caller, called = last("uac.csv"), last("uas.csv")
        end = caller[-1] if caller else {}

        def number(row, key):
            return int(float(row.get(key) or 0))

        # the rate at which calls were in fact started, over the whole seconds of offering
        steps = [float(r["CallRate(P)"]) for r in caller[1:] if number(r, "OutgoingCall(P)")]
        times = sorted(float(t) for t in self.setup_times(work))

        def pick(s):
            return times[min(len(times) - 1, int(s * len(times)))] if times else None

        reasons = {k[6:-3]: number(end, k) for k in end
                   if k and k.startswith("Failed") and k.endswith("(C)") and k != "FailedCall(C)"
                   and number(end, k)}
        try:
            notes = (work / "uac.err").read_text(errors="replace")
        except OSError:
            notes = ""
        return {
            "answered_ok": number(called[-1], "SuccessfulCall(C)") if called else 0,
            "unexpected": notes.count("on unexpected message"),
            "created": number(end, "TotalCallCreated"), "ok": number(end, "SuccessfulCall(C)"),
            "failed": number(end, "FailedCall(C)"), "open": number(end, "CurrentCall"),
            "reasons": reasons,
            "retrans": number(end, "Retransmissions(C)")
            + (number(called[-1], "Retransmissions(C)") if called else 0),
            "achieved": round(sum(steps[:-1]) / len(steps[:-1]), 1) if len(steps) > 1 else None,
            "setup_ms": {"p50": pick(.50), "p95": pick(.95), "p99": pick(.99),
                         "max": times[-1] if times else None}}

    @staticmethod
    def setup_times(work):
        for path in work.glob("uac_*_rtt.csv"):
            with open(path) as handle:
                for line in handle:
                    fields = line.rstrip("\n").split(";")
                    if len(fields) == 3 and fields[2] == "setup":
                        yield fields[1]

    def judge(self, f):
        why = []
        if not f["alive"]:
            why.append("SUT died")
        if not f["finished"]:
            why.append("did not finish in time")
        lost = f["calls"] - f["ok"]
        if lost > f["calls"] * self.o.max_failed:
            why.append(f"{lost} of {f['calls']} calls not completed {f['reasons'] or ''}".strip())
        # the SUT's readiness call ended before the called side was there
        unended = f["calls"] - f["answered_ok"] + (f["probe"] or {}).get("calls", 0)
        if unended > f["calls"] * self.o.max_failed:
            why.append(f"{unended} calls not ended at the called side")
        if f["retrans"] > f["calls"] * self.o.max_retrans:
            why.append(f"{f['retrans']} retransmissions")
        if f["achieved"] and f["achieved"] < 0.96 * f["rate"]:
            why.append(f"only {f['achieved']:.0f} calls/s could be started")
        return not why, "; ".join(why)

    # -------------------------------------------------------------- the measures

    def show(self, f, note=""):
        s = f["setup_ms"]
        print(f"  {f['sut']:<16} {f['rate']:>6.0f}/s x{f['calls']:<6} "
              f"{'pass' if f['passed'] else 'FAIL'}  ok {f['ok']} retr {f['retrans']} odd {f['unexpected']} "
              f"drop {f['drops']}  setup p50/95/99 {s['p50']}/{s['p95']}/{s['p99']} ms  "
              f"SUT {f['sut_cpu_pct']}% cpu, {f['cpu_us_per_call']} us/call  "
              f"busy {f['cpu_busy_pct'][0]}/{f['cpu_busy_pct'][1]}%  "
              f"lost {f['lost_pct']}% stolen {f['steal_pct']}% "
              f"mem {f['pss_mib'][0]}>{f['pss_mib'][1]} MiB {note} {f['why']}", flush=True)

    def ramp(self, entry):
        o = self.o
        rate, good, bad = float(entry.get("from", 50)), 0.0, None
        ceiling = float(entry.get("ceiling", 20000))
        while bad is None and rate <= ceiling:
            f = self.load(entry, rate, o.step, o.hold_ms)
            self.show(f)
            if f["passed"]:
                good, rate = rate, rate * 1.5
            else:
                bad = rate
        while bad and (bad / good if good else bad) > 1 + o.precision:
            rate = round((good * bad) ** 0.5 if good else bad / 2)
            if rate < 2:
                break
            f = self.load(entry, rate, o.step, o.hold_ms)
            self.show(f)
            good, bad = (rate, bad) if f["passed"] else (good, rate)
        while good >= 2:                                  # a longer run must bear it out
            f = self.load(entry, round(good), o.confirm, o.hold_ms)
            self.show(f, "[confirm]")
            if f["passed"]:
                return {"max_cps": round(good), **{k: f[k] for k in (
                    "sut_cpu_pct", "cpu_us_per_call", "setup_ms", "pss_mib", "rss_mib",
                    "retrans", "failed", "cpu_busy_pct")}}
            good *= 0.92
        return {"max_cps": 0}

    def latency(self, entry, highest):
        """Idle: what the SUT adds, by the probe's own called side.  Loaded: call
        setup as the probe sees it beside SIPp's load, SIPp's own called side included
        (run `none` to know its share), at shares of the highest rate."""
        out = {}
        self.runs += 1
        with turn(self.o.lock), self.sut(entry):
            out["idle"] = self.probe(entry["listen"] if entry.get("start") else self.o.uas,
                                     "--answer", self.o.uas, "--calls", "300", "--rate", "15")
        print(f"  {entry['name']:<16} idle, added to setup: {out['idle'].get('added_us')} us",
              flush=True)
        if highest:
            extra = min(20.0, max(2.0, highest / 10))
            for share in (0.5, 0.8):
                f = self.load(entry, max(1, round(highest * share - extra)), 25,
                              self.o.hold_ms, probe=extra, strict=True)
                self.show(f, f"[{share:.0%} of the highest]")
                print(f"    setup seen by the probe: {f['probe'].get('setup_us')} us, "
                      f"failed {f['probe']['failed']}", flush=True)
                out[f"{share:.0%}"] = {k: f[k] for k in (
                    "rate", "setup_ms", "sut_cpu_pct", "cpu_us_per_call", "passed", "probe")}
        return out

    def hold(self, entry, highest):
        """Memory of standing calls."""
        calls = int(entry.get("standing", self.o.standing))
        rate = min(self.o.standing_rate, max(5, int(0.5 * highest)) if highest else 1e9)
        calls = int(min(calls, rate * 20))            # keeps the whole run within a minute
        build = calls / rate
        seen = []

        def watch(pids, elapsed):
            if elapsed > build + 1 and elapsed < build + 6:
                seen.append(memory(pids))

        f = self.load(entry, rate, build, (build + 7) * 1000, calls, watch)
        self.show(f, f"[{calls} standing calls]")
        base = f["pss_mib"][0]
        top = max((m[0] for m in seen), default=0) / 1024
        return {"standing": calls, "passed": f["passed"], "base_pss_mib": base,
                "base_rss_mib": f["rss_mib"][0], "standing_pss_mib": round(top, 1),
                "kib_per_call": round((top - base) * 1024 / calls, 1),
                "after_pss_mib": f["pss_mib"][2]}


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("measures", nargs="+", choices=["ramp", "latency", "hold", "once"])
    p.add_argument("--suts", default=str(HERE / "suts.toml"))
    p.add_argument("--only", help="comma-separated names; all by default")
    p.add_argument("--start", help="a further SUT by its start command, named 'given'")
    p.add_argument("--python", default=sys.executable,
                   help="interpreter that {python} in a start command stands for")
    p.add_argument("--listen", default="127.0.0.1:5060", help="where that one listens")
    p.add_argument("--uas", default="127.0.0.1:5070", help="where calls must be routed")
    p.add_argument("--uac", default="127.0.0.1:5061")
    p.add_argument("--sut-cpu", type=int, default=0)
    p.add_argument("--load-cpu", type=int, default=1)
    p.add_argument("--nice", type=int, default=-10 if os.geteuid() == 0 else 0,
                   help="for SUT and load, so that the machine's other work stands back")
    p.add_argument("--rate", type=float, default=50, help="for `once`")
    p.add_argument("--highest", type=float, help="take this as the highest rate, no ramp")
    p.add_argument("--step", type=float, default=8, help="seconds of offering in a ramp step")
    p.add_argument("--confirm", type=float, default=30, help="seconds of the confirming run")
    p.add_argument("--drain", type=float, default=12, help="seconds allowed to finish")
    p.add_argument("--hold-ms", type=int, default=1000)
    p.add_argument("--standing", type=int, default=3000)
    p.add_argument("--standing-rate", type=float, default=200)
    p.add_argument("--precision", type=float, default=0.08)
    p.add_argument("--max-failed", type=float, default=0.001)
    p.add_argument("--max-retrans", type=float, default=0.005)
    p.add_argument("--max-lost", type=float, default=6.0,
                   help="percent of the SUT's CPU that others may take before a run is repeated")
    p.add_argument("--again", type=int, default=2, help="how many times it is done again")
    p.add_argument("--patience", type=float, default=20, help="seconds to become ready")
    p.add_argument("--lock", default=LOCK)
    p.add_argument("--out", help="append each run's figures to this file as JSON lines")
    p.add_argument("--keep", action="store_true", help="keep the scratch folder")
    o = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that cleaning up happens
    os.sched_setaffinity(0, {o.load_cpu})       # keep off the SUT's CPU ourselves
    entries = []
    if not o.start or o.only:
        with open(o.suts, "rb") as handle:
            for name, table in tomllib.load(handle).items():
                entries.append({"name": name, "listen": "127.0.0.1:5060", **table})
        if o.only:
            wanted = o.only.split(",")
            unknown = set(wanted) - {e["name"] for e in entries}
            if unknown:
                p.error(f"not in {o.suts}: {', '.join(sorted(unknown))}")
            entries = sorted((e for e in entries if e["name"] in wanted),
                             key=lambda e: wanted.index(e["name"]))
    if o.start:
        entries.append({"name": "given", "start": o.start, "listen": o.listen})
    summary = {}
    scratch = tempfile.mkdtemp(prefix="sipbench.")
    bench = Bench(o, scratch)
    try:
        for entry in entries:
            print(f"{entry['name']}:", flush=True)
            got = summary[entry["name"]] = {}
            highest = o.highest or entry.get("highest")
            try:
                if "once" in o.measures:
                    bench.show(bench.load(entry, o.rate, o.step, o.hold_ms))
                if "ramp" in o.measures:
                    got["ramp"] = bench.ramp(entry)
                    highest = got["ramp"]["max_cps"]
                if "latency" in o.measures:
                    got["latency"] = bench.latency(entry, highest)
                if "hold" in o.measures:
                    got["hold"] = bench.hold(entry, highest)
            except RuntimeError as problem:
                print(f"  {problem}", flush=True)
                got["problem"] = str(problem)
            if o.out:
                with open(o.out, "a") as handle:
                    handle.write(json.dumps({"summary": entry["name"], **got}) + "\n")
    finally:
        if o.keep:
            print(f"scratch kept: {scratch}")
        else:
            subprocess.run(["rm", "-rf", scratch])
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
