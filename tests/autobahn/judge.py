#!/usr/bin/env python3
"""Judges reports of the Autobahn suite: usage judge.py EXPECTED_CASES INDEX.JSON...

Exit 1 unless every case is OK or informational, in what it did and in how it closed, and none is missing. Cases in known.txt
beside this file deviate today, each with its reason: they are counted and printed, as is whatever is right but not strict.
"""
import collections
import json
import pathlib
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
    bad, deviating = [], []
    known = dict(line.split(maxsplit=1) for line in pathlib.Path(__file__).with_name("known.txt").read_text().splitlines() if line[:1].isdigit())
    for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
        result = cases[name]
        sections[int(name.split(".")[0])][result["behavior"]] += 1
        good = result["behavior"] in GOOD and result["behaviorClose"] in GOOD
        said = f"case {name}: {result['behavior']}, close {result['behaviorClose']} ({result['remoteCloseCode']})"
        lenient = result["behavior"] == "NON-STRICT" and result["behaviorClose"] in GOOD
        if not good and (name in known or lenient):
            deviating.append(f"known: {said}: {known.get(name, 'not on the list')}")
        elif not good:
            bad.append(said)
    for section in sorted(sections):
        print(f"section {section:2}: " + ", ".join(f"{count} {verdict}" for verdict, count in sections[section].items()))
    print(*bad, sep="\n", end="\n" if bad else "")
    print(*deviating, sep="\n", end="\n" if deviating else "")
    passed = len(cases) - len(bad) - len(deviating)
    print(f"Autobahn: {passed} passed, {len(bad)} failed, {len(deviating)} known deviations, {expected - len(cases)} missing of {expected}")
    return 0 if passed + len(deviating) == expected else 1


if __name__ == "__main__":
    sys.exit(main())
