#!/usr/bin/env python3
"""Judges reports of the Autobahn suite: usage judge.py EXPECTED_CASES INDEX.JSON...

Exit 1 unless every case is OK or informational, in what it did and in how it closed, and none is missing.
"""
import collections
import json
import sys

GOOD = {"OK", "INFORMATIONAL"}


def main():
    expected, paths = int(sys.argv[1]), sys.argv[2:]
    cases = {}
    for path in paths:
        with open(path) as file:
            for results in json.load(file).values():
                cases.update(results)
    sections = collections.defaultdict(collections.Counter)
    bad = []
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        result = cases[name]
        sections[int(name.split(".")[0])][result["behavior"]] += 1
        if not {result["behavior"], result["behaviorClose"]} <= GOOD:
            bad.append(f"case {name}: {result['behavior']}, close {result['behaviorClose']} ({result['remoteCloseCode']})")
    for section in sorted(sections):
        print(f"section {section:2}: " + ", ".join(f"{count} {verdict}" for verdict, count in sections[section].items()))
    print(*bad, sep="\n", end="\n" if bad else "")
    passed = len(cases) - len(bad)
    print(f"Autobahn: {passed} passed, {len(bad)} failed, {expected - len(cases)} missing of {expected}")
    return 0 if passed == expected else 1


if __name__ == "__main__":
    sys.exit(main())
