"""One broker of Apache Kafka on this machine, its topics, and what they hold."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches" / "pipeline"))

from host import Process, run, wait_until  # noqa: E402

PORT, CONTROLLER = 20_591, 20_592
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
num.partitions=12
log.retention.hours=1
log.dirs={folder}/data
"""


def servers():
    """Where scripts/servers.sh installs Kafka and clients in Python."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return pathlib.Path(os.environ.get("WEIR_SERVERS", cache / "weir" / "servers"))


class Broker(Process):
    """Runs while the block lasts, on any core, beside what is measured."""

    ADDRESS = f"127.0.0.1:{PORT}"

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log4j = ROOT / "tests" / "servers" / "log4j2.properties"
        java = ["java", "-Xms512m", "-Xmx1g", f"-Dlog4j2.configurationFile={log4j}", "-cp",
                f"{servers()}/kafka/libs/*"]
        properties = folder / "server.properties"
        properties.write_text(PROPERTIES.format(port=PORT, controller=CONTROLLER, folder=folder))
        run([*java, "kafka.tools.StorageTool", "format", "-t", "d2VpcndlaXJ3ZWlyd2VpcA", "-c", str(properties)])
        super().__init__([*java, "kafka.Kafka", properties], "0-" + str(os.cpu_count() - 1), open(folder / "log", "w"))

    def __enter__(self):
        super().__enter__()
        if not wait_until(self.answers, 60):
            raise RuntimeError("the broker does not answer")
        return self

    def answers(self):
        try:
            self.client().close()
            return True
        except Exception:  # whatever the client makes of a broker that is not up yet
            return False

    def client(self, group=None):
        from kafka import KafkaConsumer
        return KafkaConsumer(bootstrap_servers=self.ADDRESS, group_id=group, enable_auto_commit=False)

    def topic(self, name, partitions=12, **settings):
        from kafka.admin import KafkaAdminClient, NewTopic
        admin = KafkaAdminClient(bootstrap_servers=self.ADDRESS)
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        admin.close()

    def held(self, topic):
        """Records of a topic, by its offsets."""
        from kafka import TopicPartition
        client = self.client()
        places = [TopicPartition(topic, partition) for partition in client.partitions_for_topic(topic) or ()]
        ends = client.end_offsets(places) if places else {}
        client.close()
        return sum(ends.values())

    def octets(self, topic):
        """What a topic takes on the broker's disk."""
        folder = pathlib.Path(self.command[-1]).parent / "data"
        return sum(log.stat().st_size for log in folder.glob(f"{topic}-*/*.log"))


def threads(pid):
    """CPU seconds of each thread of a process, by name; those of one name added up."""
    found = {}
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended while we looked
        name, fields = text.split("(", 1)[1].rsplit(")", 1)
        fields = fields.split()
        found[name] = found.get(name, 0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def settled(read, quiet=3.0, limit=240):
    """The last value of `read`, once it is more than 0 and did not change for `quiet` seconds; and when that was."""
    value, since, end = 0, time.monotonic(), time.monotonic() + limit
    while time.monotonic() < end:
        now = read()
        if now != value:
            value, since = now, time.monotonic()
        elif value and time.monotonic() - since > quiet:
            break
        time.sleep(0.2)
    return value, since


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"
