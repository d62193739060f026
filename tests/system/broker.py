"""Run a real Kafka of one node on loopback, and read topics."""

import subprocess
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from needs import need
from service import PROJECT, free_port, wait_until

JARS = PROJECT / "tests" / "system" / "kafka" / "jars"
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]
SETTINGS = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={folder}/data
offsets.topic.replication.factor=1
"""


class Broker:
    """A broker that keeps its port and its storage when it is killed and started again."""

    def __init__(self, folder):
        need("java")
        need("tests/system/kafka/jars")
        self.folder = folder
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.settings = folder / "server.properties"
        self.settings.write_text(SETTINGS.format(port=port, controller_port=free_port(), folder=folder))
        format = ["kafka.tools.StorageTool", "format", "--cluster-id", "tracklog-tests", "--config", self.settings]
        subprocess.run([*JAVA, *format], check=True, capture_output=True)
        self._admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        self.start()

    def start(self):
        with open(self.folder / "broker.log", "a") as output:
            self.process = subprocess.Popen([*JAVA, "kafka.Kafka", self.settings], stdout=output, stderr=output)
        wait_until(lambda: self.process.poll() is not None or self._answers(), 60)
        assert self.process.poll() is None, (self.folder / "broker.log").read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def add_topic(self, name, partitions, **settings):
        topic = NewTopic(name, partitions, config={key.replace("_", "."): value for key, value in settings.items()})
        self._admin.create_topics([topic])[name].result()

    def _answers(self):
        try:
            return self._admin.list_topics(timeout=1).brokers
        except KafkaException:
            return False


class Record(NamedTuple):
    """A message, as a consumer gets it."""

    partition: int
    key: str
    value: str
    headers: dict


class Topic:
    """A topic and a consumer that reads it from its beginning."""

    def __init__(self, brokers, name):
        self._name = name
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "tests", "log_level": 0})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._consumer.close()

    def size(self):
        """Return the number of messages, or 0 while the broker is down."""
        try:
            return sum(end for _partition, end in self._ends())
        except KafkaException:
            return 0

    def read(self):
        """Return all messages, each partition in order."""
        missing = dict(self._ends())
        self._consumer.assign([TopicPartition(self._name, partition, 0) for partition in missing])
        records = []
        while any(missing.values()):
            message = self._consumer.poll(10)
            assert message, "no message came"
            assert not message.error(), message.error()
            missing[message.partition()] -= 1
            headers = {name: value.decode() for name, value in message.headers()}
            records.append(Record(message.partition(), message.key().decode(), message.value().decode(), headers))
        return records

    def _ends(self):
        for partition in self._consumer.list_topics(self._name, timeout=5).topics[self._name].partitions:
            yield partition, self._consumer.get_watermark_offsets(TopicPartition(self._name, partition), timeout=5)[1]
