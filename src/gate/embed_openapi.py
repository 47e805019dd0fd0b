# SPDX-License-Identifier: Apache-2.0
# Turns docs/api/openapi.json into a C array, so that the gate serves it without opening a file.
import json
import sys


def main(source, target):
    with open(source, encoding="utf-8") as f:
        text = json.dumps(json.load(f), separators=(",", ":"), ensure_ascii=True) + "\n"
    lines = ["/* SPDX-License-Identifier: Apache-2.0 */", "/* Generated from docs/api/openapi.json. */",
             '#include "gate/openapi.h"', "", "const char nc_openapi_json[] = {"]
    data = text.encode("ascii")
    lines += ["  " + ",".join(str(b) for b in data[i:i + 24]) + "," for i in range(0, len(data), 24)]
    lines += ["  0", "};", "const unsigned long nc_openapi_json_bytes = %d;" % len(data), ""]
    with open(target, "w", encoding="ascii") as f:
        f.write("\n".join(lines))


main(sys.argv[1], sys.argv[2])
