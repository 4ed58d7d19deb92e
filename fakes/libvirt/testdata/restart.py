"""Watches machines over a restart of the daemon, as a sandbox's libvirt module has to: is told that the connection has ended, opens
another, and is told of events again. The line "ready" asks for a change of the machine, the line "restart" for a restart."""
import sys
import threading

import libvirt

uri, label = sys.argv[1:3]
libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()
told = threading.Condition()
seen = []


def loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def tell(*words):
    print(*words, flush=True)


def note(*what):
    with told:
        seen.append(what)
        told.notify_all()


def wait_for(*what):
    with told:
        if not told.wait_for(lambda: what in seen, 20):
            raise SystemExit("no %s, but %s" % (what, seen))
        seen.clear()


def connect():
    conn = libvirt.open(uri)
    # A daemon that is silent is one that is gone: it is asked after a second, and once more.
    conn.setKeepAlive(1, 2)
    conn.registerCloseCallback(lambda _c, reason, _o: note("closed", reason), None)
    conn.domainEventRegister(lambda _c, dom, event, detail, _o: note(dom.name(), event, detail), None)
    return conn


threading.Thread(target=loop, daemon=True).start()
conn = connect()
tell("ready")
wait_for(label, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED)
tell("restart")
wait_for("closed", libvirt.VIR_CONNECT_CLOSE_REASON_EOF)
try:
    conn.lookupByName(label)
    raise SystemExit("a connection that has ended answers")
except libvirt.libvirtError as e:
    tell("ended", e.get_error_code(), conn.isAlive())
for _ in range(200):
    try:
        conn = connect()
        break
    except libvirt.libvirtError:
        threading.Event().wait(0.05)  # the daemon is being started
tell("state", conn.lookupByName(label).state())
tell("ready")
wait_for(label, libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
# It is quiet for longer than it takes to find out that a daemon is gone.
threading.Event().wait(3.5)
tell("alive", conn.isAlive())
tell("done")
