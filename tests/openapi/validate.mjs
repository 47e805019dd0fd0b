// SPDX-License-Identifier: Apache-2.0
// validate.mjs FILE: is FILE an OpenAPI document by the official schema, and does every $ref in it lead somewhere?
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const validator = new Validator();
const result = await validator.validate(JSON.parse(readFileSync(process.argv[2], "utf8")));
if (!result.valid) {
  console.error(JSON.stringify(result.errors, null, 2));
  process.exit(3);
}
validator.resolveRefs();
console.log(`valid by the schema of OpenAPI ${validator.version}`);
