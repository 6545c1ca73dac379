#!/usr/bin/env python3
"""Judges reports of the Autobahn suite: usage judge.py EXPECTED_CASES BAD INDEX.JSON...

Exit 1 unless every case is OK or informational, in what it did and in how it closed, and none is missing. A case that several reports
have counts as in the last one. The cases that are neither are written to the file BAD, as a specification of the suite lists them.
"""
import collections
import json
import sys

GOOD = {"OK", "INFORMATIONAL"}


def main():
    expected, bad_path, paths = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    cases = {}
    for path in paths:
        with open(path) as file:
            for results in json.load(file).values():
                cases.update(results)
    sections = collections.defaultdict(collections.Counter)
    bad, bad_names = [], []
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        result = cases[name]
        sections[int(name.split(".")[0])][result["behavior"]] += 1
        if not {result["behavior"], result["behaviorClose"]} <= GOOD:
            bad_names.append(name)
            bad.append(f"case {name}: {result['behavior']}, close {result['behaviorClose']} ({result['remoteCloseCode']})")
    for section in sorted(sections):
        print(f"section {section:2}: " + ", ".join(f"{count} {verdict}" for verdict, count in sections[section].items()))
    print(*bad, sep="\n", end="\n" if bad else "")
    with open(bad_path, "w") as file:
        file.write(", ".join(f'"{name}"' for name in bad_names))
    passed = len(cases) - len(bad)
    print(f"Autobahn: {passed} passed, {len(bad)} failed, {expected - len(cases)} missing of {expected}")
    return 0 if passed == expected else 1


if __name__ == "__main__":
    sys.exit(main())
