"""Holds what Weir wrote against documents of others: usage: formats.py SCHEMAS FOLDER

FOLDER has slices and alerts of one replay: slices.FORMAT, alerts.FORMAT. JSON is validated by
jsonschema against SCHEMAS, and OCSF also against OCSF's own published schema; protobuf is read by
Google's implementation with SCHEMAS/flow.proto. Prints the records of each, and what they add up to.
"""

import json
import pathlib
import sys
import tempfile

import jsonschema
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto
from grpc_tools import protoc
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def hold(name, schema, found):
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for number, record in enumerate(found):
        for error in checker.iter_errors(record):
            sys.exit(f"{name}, record {number}: {error.json_path}: {error.message}")


def messages(schemas, path):
    with tempfile.NamedTemporaryFile() as out:
        arguments = [f"-I{schemas}", f"--descriptor_set_out={out.name}", "flow.proto"]
        assert protoc.main(["protoc", *arguments]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("flowpb.FlowMessage"))
    with path.open("rb") as stream:
        while (found := proto.parse_length_prefixed(message, stream)) is not None:
            yield found


def main():
    schemas, folder = map(pathlib.Path, sys.argv[1:])
    for form in ("detectflow", "ecs", "ocsf"):
        for stream in ("slice", "alert"):
            found = records(folder / f"{stream}s.{form}")
            schema = json.loads((schemas / f"{form}.{stream}.schema.json").read_text())
            hold(f"{form}.{stream}", schema, found)
            print(form, stream, len(found))
    ocsf = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.5.0"))
    activity = ocsf.get_class_schema("network_activity", ["security_control"])
    slices = records(folder / "slices.ocsf")
    hold("OCSF 4001", activity, slices)
    finding = ocsf.get_class_schema("detection_finding", [])
    hold("OCSF 2004", finding, records(folder / "alerts.ocsf"))
    read = list(messages(schemas, folder / "slices.protobuf"))
    assert all(message.weir_schema == 1 for message in read)
    octets = sum(message.bytes for message in read)
    assert octets == sum(record["traffic"]["bytes"] for record in slices)
    print("protobuf octets", octets)


main()
