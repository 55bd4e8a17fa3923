"""Reads a topic up to its present end with a client that is not librdkafka's, as JSON lines.

usage: read_topic.py BROKERS TOPIC      (records of aborted transactions are left out)
"""

import json
import sys

from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner.default import murmur2


def main() -> None:
    brokers, topic = sys.argv[1:]
    consumer = KafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    partitions = sorted(consumer.partitions_for_topic(topic) or ())
    places = [TopicPartition(topic, partition) for partition in partitions]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    consumer.seek_to_beginning(*places)
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                key = record.key
                line = {
                    "partition": record.partition,
                    "offset": record.offset,
                    "murmur2": (murmur2(key) & 0x7FFFFFFF) % len(places) if key else -1,
                    "key": key.hex() if key is not None else None,
                    "value": record.value.decode(errors="replace") if record.value is not None else None,
                    "hex": record.value.hex() if record.value is not None else None,
                    "headers": [(name, value.decode()) for name, value in record.headers],
                }
                print(json.dumps(line))
    consumer.close()


main()
