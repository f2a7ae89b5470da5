// Looks at the pages of py3runctl serve in a browser, over a log of many runs:
//
//	node testdata/web/pages.mjs --py3run FILE --py3runctl FILE --synthlog FILE [--runs N] [--artifacts DIR] [--bound MS] [--only NAME] [--measure]
//
// It needs Chromium in PATH, and what npm ci installs in this directory. Each line that begins with FAILED is
// one. With --bound a page whose median time over the loopback is longer fails; with --measure only times are taken.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { forms } from "./forms.mjs";
import { Site, axe } from "./site.mjs";

const { values: option } = parseArgs({ options: {
  py3run: { type: "string" }, py3runctl: { type: "string" }, synthlog: { type: "string" }, runs: { type: "string", default: "200000" },
  artifacts: { type: "string", default: ".ci/artifacts/pages" }, bound: { type: "string" }, only: { type: "string" }, measure: { type: "boolean" },
} });
mkdirSync(option.artifacts, { recursive: true });

let passed = 0, failed = 0;
function check(what, ok, why = "") {
  if (ok) return void passed++;
  failed++;
  console.log(`FAILED ${what}${why ? `: ${why}` : ""}`);
}

// watch fails a page that logs an error, asks another origin, breaks the policy or gets an error.
function watch(page, name, allowed = []) {
  const trouble = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && trouble.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => trouble.push(`script: ${e.message}`));
  page.on("request", (r) => r.url().startsWith(site.origin + "/") || r.url().startsWith("data:") || r.url() === "about:blank" || trouble.push(`asks ${r.url()}`));
  page.on("response", (r) => r.status() >= 400 && !allowed.includes(r.status()) && trouble.push(`${r.status()} ${r.url()}`));
  return () => {
    const rest = trouble.filter((t) => !(allowed.length && t.startsWith("console: Failed to load resource")));
    check(`${name}: nothing but the page itself`, rest.length === 0, rest.slice(0, 3).join("; "));
  };
}

async function signedIn(options = {}, user = "admin") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", ...options });
  const page = await context.newPage();
  await page.goto(site.origin + "/sign-in");
  await page.fill("input[name=key]", site.keys[user]);
  await page.click("main button");
  await page.waitForURL(site.origin + "/");
  await page.close();
  return context;
}

// The pages to look at: those of the navigation, and what they lead to.
async function addresses(page) {
  const first = async (from, pattern) => {
    await page.goto(site.origin + from);
    const links = await page.$$eval("main a[href]", (all) => all.map((a) => a.getAttribute("href")));
    const found = links.find((l) => pattern.test(l));
    check(`a link like ${pattern} on ${from}`, found !== undefined);
    return found;
  };
  const of = (query) => first(`/history?${query}`, /^\/runs\/[0-9a-f-]{36}$/);
  const list = {
    overview: "/", live: "/live", history: "/history", usage: "/usage", scripts: "/scripts", people: "/people", alerts: "/alerts", integrity: "/integrity", configuration: "/configuration",
    "history-user": "/history?user=alice", "history-script": "/history?script=plant%2Ftank-balance", "history-failed": "/history?failed=1", "history-status": "/history?status=timeout", "history-since": "/history?since=7d&until=2d",
    "history-text": "/history?text=tank", "history-client": "/history?client=10.0.0.0%2F8", "history-label": "/history?label=job%3D7", "history-host": "/history?host=gw-a", "history-holder": "/history?holder=gateway-a", "history-none": "/history?user=nobody-of-this-name",
    "history-wrong": "/history?since=nonsense", "history-older": await first("/history", /before=\d+/),
    run: await of("user=alice"), "run-error": await of("status=error"), "run-limit": await of("status=timeout"), "run-denied": await of("status=denied"),
    "usage-script": "/usage?by=script&since=30d", "usage-status": "/usage?by=host&sort=cpu", "usage-user": "/usage?user=alice",
    script: "/scripts/plant/tank", "script-diff": "/scripts/plant/tank?from=1&to=3", "people-access": "/people?ask=1&script=plant%2Ftank", "alerts-all": "/alerts?state=all",
    "configuration-find": "/configuration?find=memory", "configuration-change": await first("/configuration", /^\/configuration\/change/),
  };
  list.again = list["run-limit"] + "/again";
  const alert = await page.goto(site.origin + "/alerts?state=all").then(() => page.$$eval("main a[href^='/alerts/']", (all) => all.map((a) => a.getAttribute("href"))));
  if (alert.length) list.alert = alert[0];
  return Object.fromEntries(Object.entries(list).filter(([name, address]) => address !== undefined && (!option.only || name.startsWith(option.only))));
}

async function accessible(page, name) {
  await page.evaluate(axe); // as the browser's own tools do; the policy of the page does not let a page itself do that
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const bad = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  check(`${name}: axe`, bad.length === 0, bad.map((v) => `${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 160)} ${v.nodes[0].any[0]?.message ?? ""}`).join("; "));
}

// whole checks what every page has to have.
async function whole(page, name) {
  const is = await page.evaluate(() => ({
    h1: document.querySelectorAll("h1").length, title: document.title, lang: document.documentElement.lang, text: document.querySelector("main")?.innerText.length ?? 0,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    plots: [...document.querySelectorAll("figure")].map((f) => ({ id: f.id, svg: f.querySelectorAll("svg").length, rows: f.querySelectorAll("details table tbody tr").length, title: f.querySelector("svg title")?.textContent ?? "", marks: f.querySelectorAll("svg rect, svg circle, svg path").length })),
    tables: [...document.querySelectorAll("main table")].filter((t) => !t.caption && !t.getAttribute("aria-label") && !t.getAttribute("aria-labelledby")).length,
    heads: [...document.querySelectorAll("main th")].filter((t) => !t.getAttribute("scope")).length,
    inputs: [...document.querySelectorAll("main input:not([type=hidden]), main select, main textarea")].filter((i) => !i.labels?.length && !i.getAttribute("aria-label")).length,
    levels: [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => Number(h.tagName[1])), ids: [...document.querySelectorAll("[id]")].map((e) => e.id),
    styles: document.querySelectorAll("[style], style").length, links: [...document.querySelectorAll("a[href]")].filter((a) => !a.textContent.trim() && !a.querySelector("svg, rect, circle") && !a.getAttribute("aria-label") && !a.closest("svg")).length,
  }));
  check(`${name}: one h1, a title, a language, some text`, is.h1 === 1 && / – py3run$/.test(is.title) && is.lang === "en" && is.text > 20, JSON.stringify({ ...is, ids: undefined, plots: undefined }));
  check(`${name}: nothing is wider than the window`, is.wide <= 1, `${is.wide} px`);
  check(`${name}: tables have captions, cells of heads a scope, inputs a label, links a text`, is.tables + is.heads + is.inputs + is.links === 0, `${is.tables} ${is.heads} ${is.inputs} ${is.links}`);
  check(`${name}: headings in order`, is.levels.every((l, i) => i === 0 || l <= is.levels[i - 1] + 1), is.levels.join(" "));
  check(`${name}: no id twice`, new Set(is.ids).size === is.ids.length, is.ids.filter((id, i) => is.ids.indexOf(id) !== i).slice(0, 5).join(" "));
  check(`${name}: no style in line`, is.styles === 0);
  for (const p of is.plots) check(`${name}: the plot ${p.id} has a figure with a title, and a table of its data`, p.svg >= 1 && p.title !== "" && (p.rows > 0 || p.marks < 12), JSON.stringify(p));
}

async function visit(context, name, address, kind, and = async () => {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  try {
    await looked(page, name, address, kind, and);
  } catch (e) {
    check(`${name} ${kind}: to its end`, false, e.message.slice(0, 300));
  }
  await page.close();
}

async function looked(page, name, address, kind, and) {
  const ended = watch(page, `${name} ${kind}`, address === "/nothing" ? [404] : []);
  const answer = await page.goto(site.origin + address, { waitUntil: "load" });
  check(`${name} ${kind}: 200`, answer.status() === (address === "/nothing" ? 404 : 200), String(answer.status()));
  await whole(page, `${name} ${kind}`);
  await and(page);
  await page.screenshot({ path: join(option.artifacts, `${name}-${kind}.png`), fullPage: true });
  ended();
}

// keyboard goes through a page with the Tab key alone.
async function keyboard(context, name, address) {
  const page = await context.newPage();
  await page.goto(site.origin + address);
  const wanted = await page.evaluate(() => {
    const shown = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")].filter((e) => e.checkVisibility({ checkVisibilityCSS: true, contentVisibilityAuto: true }) && !e.disabled && !(e.type === "radio"));
    shown.forEach((e, i) => (e.dataset.seen = String(i)));
    return shown.length;
  });
  const seen = new Set();
  let outline = 0;
  for (let i = 0; i < Math.min(wanted, 250) + 5; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement, s = e && getComputedStyle(e);
      return e?.dataset?.seen === undefined ? null : { n: e.dataset.seen, text: e.textContent.trim(), visible: s.outlineStyle !== "none" || e.closest("svg") !== null, skip: e.classList.contains("skip") && e.getBoundingClientRect().left >= 0 };
    });
    if (at) {
      if (i === 0) check(`${name}: the first stop leads to the content, and shows`, at.skip, JSON.stringify(at));
      seen.add(at.n);
      if (!at.visible) outline++;
    }
  }
  check(`${name}: the Tab key reaches everything`, seen.size >= Math.min(wanted, 250), `${seen.size} of ${wanted}`);
  check(`${name}: the focus shows`, outline === 0, String(outline));
  await page.keyboard.press("Escape");
  await page.goto(site.origin + address);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  check(`${name}: the skip link skips`, await page.evaluate(() => document.activeElement?.id === "main" || location.hash === "#main"));
  await page.close();
}

// times measures each page over the loopback.
async function times(list, cookie) {
  const rows = [];
  for (const [name, address] of Object.entries(list)) {
    const took = [];
    let size = 0;
    for (let i = 0; i < 20; i++) {
      const from = performance.now();
      const answer = await fetch(site.origin + address, { headers: { cookie } });
      size = (await answer.text()).length;
      took.push(performance.now() - from);
    }
    took.sort((a, b) => a - b);
    rows.push([name, took[10], took[18], size]);
    if (option.bound) check(`${name}: within ${option.bound} ms`, took[10] <= Number(option.bound), `${took[10].toFixed(1)} ms`);
  }
  console.log("page                    median ms   of 20, 19 within   KiB");
  for (const [name, median, most, size] of rows) console.log(`${name.padEnd(22)} ${median.toFixed(1).padStart(10)} ${most.toFixed(1).padStart(17)} ${(size / 1024).toFixed(0).padStart(6)}`);
}

const began = performance.now();
const tell = (what) => console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${what}`);
const site = new Site({ ...option, home: mkdtempSync(join(tmpdir(), "py3run-pages-")) });
let browser;
try {
  tell("the log is written");
  const address = await site.serve();
  tell("the pages are served");
  browser = await chromium.launch({ executablePath: execFileSync("which", ["chromium"], { encoding: "utf8" }).trim(), args: ["--no-sandbox"] });

  const light = await signedIn();
  const first = await light.newPage();
  const list = await addresses(first);
  await first.close();
  if (!option.measure) await everything(light, list, address);
  const code = await light.request.get(`${site.origin}${list["run-limit"] ?? "/runs/x"}/code`);
  check("the code of a run is a file to keep", /^attachment/.test(code.headers()["content-disposition"] ?? "") || code.status() === 404, `${code.status()} ${JSON.stringify(code.headers())}`);
  const [cookie] = await light.cookies();
  await times(list, `${cookie.name}=${cookie.value}`);
  tell("times");
  await browser.close();
  await site.stop();
  check("the pages end with 0", site.code === 0, String(site.code));
  const said = site.said.split("\n").filter((l) => l && !/records read in|open this address/.test(l));
  check("nothing on standard error", said.length === 0, said.slice(0, 3).join("; "));
} catch (e) {
  check("to the end", false, e.stack);
} finally {
  await browser?.close();
  site.end();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

// everything looks at each page in each way, and uses its forms.
async function everything(light, list, address) {
  for (const [name, address] of Object.entries(list)) {
    await visit(light, name, address, "light", async (page) => {
      await accessible(page, `${name} light`);
      await page.pdf({ path: join(option.artifacts, `${name}.pdf`), format: "A4" });
    });
  }
  await visit(light, "nothing", "/nothing", "light", (page) => accessible(page, "nothing light"));
  tell("light");
  const several = ["history-user", "history-wrong", "history-none", "usage-script"]; // of those that differ by their filter alone
  for (const [kind, options] of Object.entries({ dark: { colorScheme: "dark" }, narrow: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 1 }, plain: { javaScriptEnabled: false } })) {
    const context = await signedIn(options);
    for (const [name, address] of Object.entries(list).filter(([name]) => !/^history-|^usage-/.test(name) || several.includes(name))) await visit(context, name, address, kind, async (page) => kind === "dark" && accessible(page, `${name} dark`));
    await context.close();
    tell(kind);
  }
  for (const name of ["overview", "history", "run", "configuration-find", "script", "integrity"]) if (list[name]) await keyboard(light, name, list[name]);
  tell("keyboard");
  if (!option.only) {
    await forms({ site, browser, address, check, watch, signedIn, list, artifacts: option.artifacts, accessible });
    tell("forms");
  }
}
