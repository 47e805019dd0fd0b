// SPDX-License-Identifier: Apache-2.0
// Bundles the dashboard: node build.mjs DIRECTORY makes DIRECTORY/index.html and what it names, DIRECTORY/assets/.
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const to = process.argv[2];
// What we pass on we pass on with its licence.
const uplot = readFileSync("node_modules/uplot/LICENSE", "utf8").trim();
const banner = `/*! NovaCron's dashboard. SPDX-License-Identifier: Apache-2.0\n\nContains uPlot (https://github.com/leeoniya/uPlot):\n\n${uplot}\n*/`;

mkdirSync(`${to}/assets`, { recursive: true });
await build({
  entryPoints: { dashboard: "main.js" },
  outdir: `${to}/assets`,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome109", "firefox109", "safari16"],
  charset: "utf8",
  legalComments: "none",
  banner: { js: banner, css: banner },
  logLevel: "warning",
});
copyFileSync("index.html", `${to}/index.html`);
copyFileSync("icon.svg", `${to}/assets/icon.svg`);
