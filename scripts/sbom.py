#!/usr/bin/env python3
"""What is in the binary: a bill of materials, and the licence texts of all that is linked.

    sbom.py [--sbom FILE] [--licences FILE] [--features LIST | --no-default-features]

Cargo says which crates are linked for this machine's target (`cargo tree`, normal edges, without procedural
macros) and what each is (`cargo metadata`); Cargo.lock has their checksums. The bill is CycloneDX 1.5 in
JSON. Its time is SOURCE_DATE_EPOCH (by default 0) and its serial number a hash of what it lists, so the same
lock file gives the same octets. C libraries that a crate carries (librdkafka, zstd, mimalloc, AWS-LC) stand
under that crate, whose version names theirs, and their licences are collected with it.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENCE = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)
# Below a crate's folder: sources that it carries keep their own licences there.
DEPTH = 4


def cargo(*arguments):
    """Standard output of cargo, which says itself what went wrong."""
    command = [os.environ.get("CARGO", "cargo"), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked(features):
    """(name, version) of every crate that is linked into the binary, this one among them."""
    lines = cargo("tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none",
                  "--format", "{p}", *features).splitlines()
    crates = (line.split() for line in lines if line)
    return {(words[0], words[1].removeprefix("v")) for words in crates}


def packages(features):
    """The linked packages as `cargo metadata` tells them, sorted, and whom each of them uses."""
    host = re.search(r"^host: (.*)$", subprocess.run(
        ["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout, re.MULTILINE).group(1)
    told = json.loads(cargo("metadata", "--locked", "--format-version", "1",
                            "--filter-platform", host, *features))
    wanted = linked(features)
    found = {p["id"]: p for p in told["packages"] if (p["name"], p["version"]) in wanted}
    if missing := wanted - {(p["name"], p["version"]) for p in found.values()}:
        sys.exit(f"sbom: cargo metadata does not know {sorted(missing)}")
    uses = {node["id"]: sorted(purl(found[dep["pkg"]]) for dep in node["deps"] if dep["pkg"] in found
                               and any(kind["kind"] is None for kind in dep["dep_kinds"]))
            for node in told["resolve"]["nodes"] if node["id"] in found}
    return sorted(found.values(), key=lambda p: (p["name"], p["version"])), uses


def purl(package):
    """https://github.com/package-url/purl-spec, type cargo."""
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def expression(package):
    """The licence as SPDX has it; old crates separate alternatives by a slash."""
    if package["license"]:
        return {"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}
    return {"license": {"name": f"see {package['license_file'] or 'its sources'}"}}


def component(package, checksums):
    """One crate."""
    made = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "description": " ".join((package["description"] or "").split()),
        "licenses": [expression(package)],
        "purl": purl(package),
    }
    if checksum := checksums.get((package["name"], package["version"])):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def model():
    """The sequence model that is shipped beside the binary."""
    octets = (ROOT / "model/weir.onnx").read_bytes()
    digest = hashlib.sha256(octets).hexdigest()
    return {
        "type": "machine-learning-model",
        "bom-ref": "weir.onnx",
        "name": "weir.onnx",
        "version": digest[:12],
        "description": "Sequence model for command and control and exfiltration; model/MODEL_CARD.md",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def bill(found, uses):
    """The bill of materials."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock}
    own = next(p for p in found if p["name"] == "weir")
    components = [component(p, checksums) for p in found if p is not own] + [model()]
    edges = [{"ref": purl(p), "dependsOn": uses[p["id"]]} for p in found]
    own_edge = next(edge for edge in edges if edge["ref"] == purl(own))
    own_edge["dependsOn"].append("weir.onnx")
    listed = json.dumps([components, edges], sort_keys=True).encode()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(listed).digest()[:16], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.UTC).isoformat(),
            "component": component(own, checksums) | {"type": "application"},
        },
        "components": components,
        "dependencies": edges + [{"ref": "weir.onnx"}],
    }


def licence_files(folder):
    """Licence texts in `folder` and in the sources that it carries."""
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if len(below.parts) <= DEPTH and LICENCE.match(path.name) and path.is_file():
            if path.suffix not in {".rs", ".py", ".h", ".c", ".go", ".pl", ".sh"}:
                yield below, path


def licences(found):
    """All texts, each once, under the crates that it is of."""
    texts, without = {}, []
    for package in found:
        name = f"{package['name']} {package['version']}"
        files = list(licence_files(Path(package["manifest_path"]).parent)) if package["source"] else []
        if package["source"] and not files:
            authors = ", ".join(package["authors"]) or "its authors"
            without.append(f"  {name}: {package['license']}; by {authors}")
        for below, path in files:
            text = path.read_text(errors="replace").strip()
            at = name if len(below.parts) == 1 else f"{name} ({below.parent})"
            texts.setdefault(text, []).append(at)
    rule = "=" * 100
    yield "Weir's binary links these libraries. Their licence texts follow, each under those that it is of.\n"
    for text, crates in sorted(texts.items(), key=lambda item: item[1]):
        yield f"\n{rule}\n{', '.join(sorted(set(crates)))}\n{rule}\n\n{text}\n"
    if without:
        yield f"\n{rule}\nWithout a text of their own; the terms that they name are those above.\n{rule}\n\n"
        yield "\n".join(without) + "\n"


def write(path, text):
    """Into a file whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main():
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sbom", type=Path, metavar="FILE")
    parser.add_argument("--licences", type=Path, metavar="FILE")
    parser.add_argument("--features")
    parser.add_argument("--no-default-features", action="store_true")
    given = parser.parse_args()
    features = ["--features", given.features] if given.features else []
    features += ["--no-default-features"] if given.no_default_features else []
    found, uses = packages(features)
    if given.sbom:
        write(given.sbom, json.dumps(bill(found, uses), indent=1) + "\n")
        print(f"sbom: {len(found) - 1} crates: {given.sbom}", file=sys.stderr)
    if given.licences:
        write(given.licences, "".join(licences(found)))


if __name__ == "__main__":
    main()
