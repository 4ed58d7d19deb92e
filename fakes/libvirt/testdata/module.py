"""Does what a sandbox's libvirt module does with a machine: opens a connection,
finds the domain and its current snapshot, reverts to it, follows its state by
events and by asking, dumps its memory, ends it. Prints a line for each step."""
import sys
import threading
import time
from xml.etree import ElementTree

import libvirt

uri, label, dump = sys.argv[1:4]
libvirt.registerErrorHandler(lambda *_: None, None)
libvirt.virEventRegisterDefaultImpl()
stop = threading.Event()


def loop():
    while not stop.is_set():
        libvirt.virEventRunDefaultImpl()


def tell(*words):
    print(*words, flush=True)


thread = threading.Thread(target=loop, daemon=True)
thread.start()

conn = libvirt.open(uri)
changed = threading.Condition()
seen = []


def lifecycle(_conn, dom, event, detail, _opaque):
    with changed:
        seen.append((dom.name(), event, detail))
        changed.notify_all()


def await_event(event, detail):
    with changed:
        if not changed.wait_for(lambda: (label, event, detail) in seen, 20):
            raise SystemExit("no event %d/%d, but %s" % (event, detail, seen))
        seen.clear()


conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
conn.setKeepAlive(5, 3)
tell("version", conn.getType(), conn.getVersion(), conn.getLibVersion())
tell("domains", sorted(conn.listDefinedDomains()), conn.listDomainsID())
dom = conn.lookupByName(label)
tell("active", dom.isActive(), "state", dom.state())
try:
    conn.lookupByName("nosuch")
except libvirt.libvirtError as e:
    tell("lookup", e.get_error_code(), e.get_error_domain(), e.get_error_message())
try:
    dom.destroy()
except libvirt.libvirtError as e:
    tell("destroy", e.get_error_code(), e.get_error_domain(), e.get_error_message())
snapshot = dom.snapshotCurrent()
tell("snapshots", [s.getName() for s in dom.listAllSnapshots(0)], "current", snapshot.getName(), dom.hasCurrentSnapshot())
# One module takes the snapshot that is current, another the one that was made last.
names = dom.snapshotListNames(0)
made = [int(ElementTree.fromstring(dom.snapshotLookupByName(n, 0).getXMLDesc(0)).findtext("./creationTime")) for n in names]
tell("names", names, "made", all(abs(time.time() - t) < 3600 for t in made))
try:
    dom.snapshotLookupByName("nosuch", 0)
except libvirt.libvirtError as e:
    tell("snapshot", e.get_error_code(), e.get_error_domain(), e.get_error_message())
try:
    conn.defineXML("<network/>")
except libvirt.libvirtError as e:
    tell("define", e.get_error_code(), e.get_error_domain(), e.get_error_message())
dom.revertToSnapshot(snapshot, 0)
await_event(libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT)
tell("reverted", dom.state(), "info", dom.info()[0], "by id", [conn.lookupByID(i).name() for i in conn.listDomainsID()])
dom.coreDumpWithFormat(dump, libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY)
tell("dumped", dom.state())
dom.suspend()
await_event(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED)
dom.resume()
tell("stats", conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)[0][1])
stream = conn.newStream()
mime = dom.screenshot(stream, 0)
picture = bytearray()
stream.recvAll(lambda _s, data, _o: picture.extend(data), None)
stream.finish()
tell("screenshot", mime, bytes(picture[1:4]).decode())
dom.destroy()
await_event(libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
tell("destroyed", dom.state())
dom.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
tell("started", dom.state(), dom.ID())
dom.resume()
await_event(libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED)
# A guest takes the button into account when it has booted.
while dom.isActive():
    try:
        dom.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError:
        pass  # it went off in between
    time.sleep(0.02)
await_event(libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
tell("shut down", dom.state())
stop.set()
conn.close()
