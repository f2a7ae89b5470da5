// What people do with the pages: sign in and out, filter, take CSV, acknowledge, change, cancel, run again.
import { join } from "node:path";

export async function forms(t) {
  await oneTime(t);
  await signing(t);
  for (const javaScriptEnabled of [true, false]) await filtering(t, javaScriptEnabled);
  await csv(t);
  await zone(t);
  await seeing(t);
  for (const javaScriptEnabled of [true, false]) await changing(t, javaScriptEnabled);
  await living(t);
}

// The address that serve prints signs in once.
async function oneTime({ browser, address, site, check, watch }) {
  for (const [n, want] of [["first", "/"], ["second", "/sign-in"]]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    const ended = watch(page, `one-time address, ${n}`, [403]);
    await page.goto(address);
    if (want === "/") await page.waitForURL(site.origin + "/");
    check(`one-time address, ${n}`, new URL(page.url()).pathname === want, page.url());
    const cookies = await context.cookies();
    check(`one-time address, ${n}: cookie`, want === "/" ? cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict" : cookies.length === 0, JSON.stringify(cookies));
    if (want === "/") check("scripts see no cookie", (await page.evaluate(() => document.cookie)) === "");
    ended();
    await context.close();
  }
}

async function signing({ browser, site, check, artifacts, accessible }) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(site.origin + "/history?user=alice");
  check("who has not signed in is asked for a key", (await page.locator("input[name=key]").count()) === 1);
  await accessible(page, "sign-in");
  await page.screenshot({ path: join(artifacts, "sign-in.png") });
  await page.fill("input[name=key]", "p3r_guess");
  await page.click("main button");
  check("a wrong key is refused", (await page.innerText("main")).includes("is not accepted"));
  await page.fill("input[name=key]", site.keys.gone);
  await page.click("main button");
  check("the key of a disabled user is refused", (await page.innerText("main")).includes("is not accepted"));
  await page.fill("input[name=key]", site.keys.audrey);
  await page.click("main button");
  await page.waitForURL("**/history?user=alice");
  check("signing in leads to where one was", (await page.innerText("header")).includes("audrey"));
  await page.click("text=Sign out");
  check("signing out", page.url().endsWith("/sign-in"));
  await page.goBack();
  await page.reload();
  check("after signing out there is nothing to go back to", (await page.locator("input[name=key]").count()) === 1);
  await context.close();
}

async function filtering({ site, check, signedIn, watch }, javaScriptEnabled) {
  const kind = javaScriptEnabled ? "with scripts" : "without scripts";
  const context = await signedIn({ javaScriptEnabled });
  const page = await context.newPage();
  const ended = watch(page, `filter ${kind}`, [422]);
  await page.goto(site.origin + "/history");
  await page.fill("main input[name=user]", "alice");
  await page.check("main input[name=failed]");
  await page.click("main form.filter button.primary");
  await page.waitForURL("**/history?*user=alice*");
  await page.waitForFunction(() => [...document.querySelectorAll("main table tbody tr")].every((r) => !r.innerText.includes("✓"))).catch(() => {});
  const rows = await page.$$eval("main table tbody tr", (all) => all.map((r) => r.innerText).filter((r) => /\d\d:\d\d:\d\d/.test(r)));
  check(`filter ${kind}: rows of alice that failed`, rows.length > 0 && rows.every((r) => r.includes("alice") && !r.includes("✓")), rows.slice(0, 2).join(" | "));
  await page.reload();
  check(`filter ${kind}: the address keeps it`, (await page.inputValue("main input[name=user]")) === "alice" && (await page.isChecked("main input[name=failed]")));
  for (const [from, button] of [["/usage", "main form.filter button"], ["/alerts", "main form.filter button"], ["/scripts", "main form.filter button"], ["/configuration", "main form.filter button"]]) {
    await page.goto(site.origin + from);
    await page.locator(button).first().click();
    await page.waitForLoadState();
    check(`filter of ${from} ${kind}`, new URL(page.url()).pathname === from && (await page.locator("h1").count()) === 1, page.url());
  }
  ended();
  await context.close();
}

async function csv({ site, check, signedIn }) {
  const context = await signedIn();
  for (const [query, args] of [["user=alice&failed=1", ["--user", "alice", "--failed"]], ["status=timeout&since=30d", ["--status", "timeout", "--since", "30d"]]]) {
    const answer = await context.request.get(`${site.origin}/history.csv?${query}`);
    const text = await answer.text();
    const rows = text.trimEnd().split("\n");
    const own = site.ctl(["--tz", "UTC", "history", "--format", "csv", "--limit", String(rows.length - 1), ...args]);
    check(`CSV of ${query} is that of py3runctl history`, answer.headers()["content-type"].startsWith("text/csv") && rows.length > 2 && text.replaceAll("\r\n", "\n") === own.replaceAll("\r\n", "\n"), `${rows.length} rows: ${rows[1]} | ${own.split("\n")[1]}`);
  }
  await context.close();
}

async function zone({ site, check, signedIn }) {
  const context = await signedIn({ timezoneId: "Asia/Tokyo" });
  const page = await context.newPage();
  await page.goto(site.origin + "/history?user=alice");
  check("the zone is that of the browser", (await page.inputValue("footer input[name=zone]")) === "Asia/Tokyo");
  const before = await page.innerText("main time >> nth=0");
  await page.fill("footer input[name=zone]", "UTC");
  await page.click("footer button");
  await page.waitForLoadState();
  check("another zone shows other times of the same page", page.url().endsWith("/history?user=alice") && (await page.innerText("main time >> nth=0")) !== before);
  await context.close();
}

// Each one sees what the policy lets that one see.
async function seeing({ site, check, signedIn }) {
  for (const [user, others, config] of [["bob", false, false], ["audrey", true, true], ["admin", true, true]]) {
    const context = await signedIn({}, user);
    const page = await context.newPage();
    await page.goto(site.origin + "/history");
    const names = new Set(await page.$$eval("main table tbody tr", (all) => all.map((r) => r.innerText).filter((r) => /\balice\b|\bcarol\b|\bdave\b/.test(r))));
    check(`${user} sees ${others ? "" : "no "}runs of others`, names.size > 0 === others, [...names].slice(0, 1).join());
    const answer = await page.goto(site.origin + "/configuration");
    check(`${user} sees ${config ? "the" : "no"} configuration`, (answer.status() === 200) === config, String(answer.status()));
    await context.close();
  }
}

async function changing({ site, check, signedIn, watch, artifacts, accessible }, javaScriptEnabled) {
  const kind = javaScriptEnabled ? "with scripts" : "without scripts";
  const context = await signedIn({ javaScriptEnabled });
  const page = await context.newPage();
  const ended = watch(page, `forms ${kind}`, [422]);
  // an alert
  await page.goto(site.origin + "/alerts?state=open");
  const alert = await page.$$eval("main a[href^='/alerts/']", (all) => all[0]?.getAttribute("href"));
  check(`an open alert ${kind}`, alert !== undefined);
  if (alert) {
    await page.goto(site.origin + alert);
    await page.fill("main textarea[name=comment]", `seen ${kind} <b>&`);
    await page.click("main form button.primary");
    await page.waitForLoadState();
    await page.goto(site.origin + alert);
    check(`an alert is acknowledged ${kind}`, (await page.innerText("main")).includes(`seen ${kind} <b>&`));
  }
  // the integrity of the log
  await page.goto(site.origin + "/integrity");
  await page.click("summary:has-text('Put a hold in force')");
  await page.fill("main form[action='/integrity/holds'] input[name=user]", "alice");
  await page.fill("main form[action='/integrity/holds'] input[name=comment]", `a case ${kind}`);
  await page.click("main form[action='/integrity/holds'] button");
  await page.waitForLoadState();
  await page.goto(site.origin + "/integrity");
  check(`a hold is in force ${kind}`, (await page.innerText("main")).includes(`a case ${kind}`));
  await page.click("main form[action='/integrity/verify'] button");
  await page.waitForLoadState();
  for (let i = 0; i < 240 && (await page.locator("form[action='/integrity/stop']").count()); i++) {
    await new Promise((r) => setTimeout(r, 500));
    await page.goto(site.origin + "/integrity");
  }
  check(`the log is verified ${kind}`, /verified|proved/i.test(await page.innerText("main")) && !(await page.locator("form[action='/integrity/stop']").count()));
  await page.screenshot({ path: join(artifacts, `verified-${javaScriptEnabled ? "light" : "plain"}.png`), fullPage: true });
  // the configuration
  await page.goto(site.origin + "/configuration/change?key=alerts.denials");
  const field = page.locator("main form [name=value], main form [name='alerts.denials']").first();
  if (await field.count()) {
    await field.fill(javaScriptEnabled ? "7" : "8");
    await page.click("main form button.primary");
    await page.waitForLoadState();
    const plan = await page.innerText("main");
    check(`a change of the configuration is shown first ${kind}`, plan.includes(javaScriptEnabled ? "7" : "8"), plan.slice(0, 300));
    if (javaScriptEnabled) await accessible(page, "configuration-plan");
    await page.screenshot({ path: join(artifacts, `configuration-plan-${javaScriptEnabled ? "light" : "plain"}.png`), fullPage: true });
    await page.locator("main form[action='/configuration/apply'] button").first().click();
    await page.waitForLoadState();
    await page.goto(site.origin + "/configuration?find=alerts.denials");
    check(`a change of the configuration is made ${kind}`, (await page.innerText("main")).includes(javaScriptEnabled ? "7" : "8"));
  } else {
    check(`a change of the configuration ${kind}`, false, (await page.innerText("main")).slice(0, 200));
  }
  // run again
  await page.goto(site.origin + "/history?status=ok&user=root&since=1h");
  const run = await page.$$eval("main a[href^='/runs/']", (all) => all.map((a) => a.getAttribute("href")).find((h) => /^\/runs\/[0-9a-f-]{36}$/.test(h)));
  if (run) {
    await page.goto(`${site.origin}${run}/again`);
    const button = page.locator("main form button.primary");
    if (await button.count()) {
      await button.click();
      await page.waitForLoadState();
      for (let i = 0; i < 60 && !/✓|✗|ok|error|level/.test(await page.innerText("main")); i++) {
        await new Promise((r) => setTimeout(r, 500));
        await page.reload();
      }
      check(`a run again ${kind}`, /ok/.test(await page.innerText("main")), (await page.innerText("main")).slice(0, 300));
      await page.screenshot({ path: join(artifacts, `again-result-${javaScriptEnabled ? "light" : "plain"}.png`), fullPage: true });
    } else check(`a run again ${kind}`, false, (await page.innerText("main")).slice(0, 300));
  } else check(`a run of root ${kind}`, false);
  ended();
  await context.close();
}

// A run that is alive shows, and can be cancelled after a question.
async function living({ site, check, signedIn, artifacts, accessible }) {
  const context = await signedIn();
  const page = await context.newPage();
  await page.goto(site.origin + "/live");
  const link = await page.$$eval("main a[href$='/cancel']", (all) => all[0]?.getAttribute("href"));
  check("a run that is alive can be cancelled", link !== undefined, (await page.innerText("main")).slice(0, 200));
  if (link) {
    await page.goto(site.origin + link);
    await accessible(page, "cancel");
    await page.screenshot({ path: join(artifacts, "cancel.png") });
    await page.locator("main form[method=post] button").first().click();
    await page.waitForLoadState();
    for (let i = 0; i < 40; i++) {
      await page.goto(site.origin + "/live");
      if (!(await page.locator(`main a[href='${link}']`).count())) break;
      await new Promise((r) => setTimeout(r, 250));
    }
    check("it is cancelled", (await page.locator(`main a[href='${link}']`).count()) === 0);
  }
  await context.close();
}
