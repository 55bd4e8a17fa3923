"""Lists a bucket of an S3 server and reads its objects with clients that are not ours, as JSON.

usage: read_objects.py ENDPOINT BUCKET [uploads]      (uploads: also those that nobody completed)
"""

import gzip
import io
import json
import sys

import boto3
import pyarrow.parquet
import zstandard


def rows(key, body):
    if key.endswith(".parquet"):
        return pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    if key.endswith(".gz"):
        body = gzip.decompress(body)
    elif key.endswith(".zst"):
        body = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read()
    return [json.loads(line) for line in body.decode().splitlines()]


def main() -> None:
    endpoint, bucket = sys.argv[1:3]
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIAWEIRTESTS",
        aws_secret_access_key="kept-in-a-file-not-in-the-log",
    )
    objects = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            got = client.get_object(Bucket=bucket, Key=item["Key"])
            found = rows(item["Key"], got["Body"].read())
            names = ("flow_id", "id")
            objects.append(
                {
                    "key": item["Key"],
                    "octets": item["Size"],
                    "modified": item["LastModified"].timestamp(),
                    "type": got.get("ContentType"),
                    "encryption": got.get("ServerSideEncryption"),
                    "kms_key": got.get("SSEKMSKeyId"),
                    "ids": [next(row[n] for n in names[::-1] if n in row) for row in found],
                    "fields": sorted(found[0]) if found else [],
                }
            )
    listed = {"objects": objects}
    if "uploads" in sys.argv[3:]:
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        listed["uploads"] = [upload["Key"] for upload in uploads]
    print(json.dumps(listed))


main()
