// What the page does beyond being read: it stays fresh, copies, and resyncs. Reading needs none of this.
"use strict";
{
  const REFRESH_MS = 10_000;
  const WATCH_MS = 15_000;

  const html = document.documentElement;
  const live = document.getElementById("live");
  const serverAhead = Date.parse(html.dataset.now) - Date.now();
  const code = new URLSearchParams(location.search).get("code");

  const now = () => Date.now() + serverAhead;

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // The same words as in words.py.
  const span = (milliseconds) => {
    const seconds = Math.floor(milliseconds / 1000);
    const minutes = Math.floor(seconds / 60);
    const hours = Math.floor(minutes / 60);
    if (minutes < 1) return `${seconds} s`;
    if (hours < 1) return `${minutes} min`;
    if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return `${Math.floor(hours / 24)} days`;
  };

  const relative = (at) => {
    const away = now() - at;
    if (Math.abs(away) < 10_000) return "just now";
    return away > 0 ? `${span(away)} ago` : `in ${span(-away)}`;
  };

  const say = (node, words) => {
    if (node.textContent !== words) node.textContent = words;
  };

  const tick = () => {
    for (const time of document.querySelectorAll("time[data-relative]")) say(time, relative(Date.parse(time.dateTime)));
    for (const time of document.querySelectorAll("time[data-elapsed]")) say(time, span(now() - Date.parse(time.dateTime)));
  };

  // --- Freshness: ask for the page again, and exchange the parts that say something else.

  let tag = null;
  let asking = false;

  const withKey = (headers) => (code ? { ...headers, "x-functions-key": code } : headers);

  const ask = async () => {
    const url = new URL(location.href);
    url.searchParams.delete("code");
    url.hash = "";
    const answer = await fetch(url, { headers: withKey(tag ? { "If-None-Match": tag } : {}), cache: "no-store" });
    if (answer.status === 304) return null;
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    tag = answer.headers.get("ETag");
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // Where the focus is: the nearest element with an id, and the how manyth below it.
  const place = (focused) => {
    const home = focused?.closest("[id]");
    return home ? [home.id, [...home.querySelectorAll("*")].indexOf(focused)] : [null, -1];
  };

  const exchange = (fresh) => {
    const open = new Map([...document.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const [home, index] = place(document.activeElement);
    const { scrollX, scrollY } = window;
    for (const part of fresh.querySelectorAll("[data-part]")) {
      for (const one of part.querySelectorAll("details[id]")) one.open = open.get(one.id) ?? one.open;
      document.getElementById(part.id)?.replaceWith(document.adoptNode(part));
    }
    document.title = fresh.title;
    if (document.activeElement === document.body && home) {
      const again = document.getElementById(home);
      (again?.querySelectorAll("*")[index] ?? again)?.focus({ preventScroll: true });
    }
    window.scrollTo(scrollX, scrollY);
  };

  const sameParts = (fresh) => {
    const ids = (page) => [...page.querySelectorAll("[data-part]")].map((part) => part.id).join();
    return ids(fresh) === ids(document);
  };

  const selecting = () => !getSelection().isCollapsed;

  const refresh = async () => {
    if (asking || document.hidden || selecting()) return;
    asking = true;
    try {
      const fresh = await ask();
      if (fresh && !sameParts(fresh)) location.reload();
      else if (fresh) exchange(fresh);
      live.classList.remove("lost");
      live.textContent = "Live";
    } catch (error) {
      live.classList.add("lost");
      live.textContent = `Not live: the app does not answer (${error.message}). What is shown gets old.`;
    }
    asking = false;
    tick();
  };

  // --- Copying

  const copy = async (button) => {
    const told = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
      told.textContent = `Copied ${button.dataset.copy}`;
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      told.textContent = "The browser does not let this page copy. The text is selected.";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  };

  // --- Resync: a dry run first, then the act, then handshakes until every connection meets the version.

  const dialog = document.getElementById("resync");
  const body = document.getElementById("resync-body");
  const act = document.getElementById("resync-act");
  const overridable = new Set(dialog?.dataset.overridable.split(" "));
  let gateway = null;
  let watch = 0;

  const post = async (fields) => {
    const answer = await fetch("/api/resync", {
      method: "POST",
      headers: withKey({ "Content-Type": "application/json" }),
      body: JSON.stringify({ gateway: gateway.id, ...fields }),
    });
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    const id = said.operation_id ? ` (operation id ${said.operation_id})` : "";
    throw new Error(`HTTP ${answer.status}: ${said.detail ?? "no reason was given"}${id}`);
  };

  const show = (...nodes) => body.replaceChildren(...nodes);
  const paragraph = (text, className = "") => element("p", { className }, text);
  const short = (thumbprint) => (thumbprint ? `${thumbprint.slice(0, 10)}…` : "nothing");

  const met = (verdict) => verdict.served
    .filter((seen) => seen.thumbprint && seen.thumbprint === verdict.expected)
    .reduce((sum, seen) => sum + seen.connections, 0);
  const total = (verdict) => verdict.served.reduce((sum, seen) => sum + seen.connections, 0);
  const covered = (report) => report.verdicts.filter((verdict) => verdict.expected);

  const list = (report) => element("ul", { tabIndex: 0 }, ...covered(report).map((verdict) => element(
    "li", {}, element("b", {}, verdict.hostname),
    element("span", {}, `${met(verdict)} of ${count(total(verdict), "connection")} on ${short(verdict.expected)}, ${verdict.status}`),
  )));

  const offer = (label, whenChosen) => {
    act.hidden = !label;
    act.disabled = false;
    act.textContent = label ?? "";
    act.onclick = whenChosen ?? null;
  };

  const TITLES = {
    ObserveOnly: "Dry run: a sync is needed. Nothing has been sent yet.",
    NothingStale: "Dry run: nothing is stale, so a sync would change nothing.",
  };
  const COVERS = "A sync makes the gateway read all its certificates from Key Vault again. A managed gateway takes 15 to 45 minutes.";
  const OVERRIDES = "A sync past a block makes the gateway take what the block warns of. It is asked for once, and written to the log and to Application Insights with the names of the blocks.";

  // Blocks that a person may go past, each by its name, and what each says.
  const blocksOf = (report) => Map.groupBy(
    report.verdicts.filter((verdict) => verdict.status === "BLOCKED" && overridable.has(verdict.reason)),
    (verdict) => verdict.reason,
  );

  const askPast = (blocks) => {
    const choices = [...blocks].map(([reason, verdicts]) => element(
      "div", { className: "block" },
      element("label", {}, element("input", { type: "checkbox", value: reason }), element("b", {}, `Go past ${reason}`)),
      ...verdicts.slice(0, 3).map((verdict) => paragraph(verdict.message, "facts")),
      ...(verdicts.length > 3 ? [paragraph(`And ${count(verdicts.length - 3, "more hostname")}.`, "facts")] : []),
    ));
    const fields = element("fieldset", {}, element("legend", {}, "Blocked, so that nothing breaks"), ...choices);
    const chosen = () => [...fields.querySelectorAll("input:checked")].map((box) => box.value);
    fields.addEventListener("change", () => { act.disabled = !chosen().length; });
    body.append(fields);
    offer("Show what would happen", () => dryRun(chosen()));
    act.disabled = true;
  };

  const dryRun = async (override = []) => {
    const opened = gateway;
    if (override.length) document.getElementById("resync-close").focus(); // the button below goes away
    offer(null);
    show(paragraph("Dry run: looking by handshake, changing nothing…"));
    try {
      const report = await post({ dry_run: true, override });
      if (gateway !== opened) return;
      const decision = report.decisions[0];
      const choice = decision?.choice;
      const blocks = override.length ? new Map() : blocksOf(report);
      const underWay = choice === "NothingStale" && report.verdicts.some((verdict) => verdict.status === "SYNCING");
      const title = underWay ? "Dry run: a change is under way already, so none is started."
        : override.length && choice === "ObserveOnly" ? `Dry run: a sync would be sent, past ${override.join(" and ")}. Nothing has been sent yet.`
        : blocks.size && choice !== "ObserveOnly" ? "Dry run: no sync would be sent, because a block holds it."
        : TITLES[choice];
      show(
        element("p", {}, element("b", {}, title ?? "Dry run: no sync would be sent now.")),
        ...(title ? [] : [paragraph(decision?.message ?? "", "answer wrong")]),
        list(report),
      );
      if (underWay) return follow(report);
      body.append(paragraph(override.length ? `${COVERS} ${OVERRIDES}` : COVERS, "facts"));
      if (dialog.dataset.observes === "yes") body.append(paragraph("The app is in observe mode: it looks and tells, and will not sync.", "answer"));
      else if (choice === "ObserveOnly") offer(override.length ? `Sync past ${override.join(" and ")}` : "Sync now", () => resync({ override }));
      else if (blocks.size) askPast(blocks);
      else if (choice === "NothingStale" && covered(report).length) offer("Sync all the same", () => resync({ force: true }));
    } catch (error) {
      show(paragraph(`The dry run failed. ${error.message}`, "answer wrong"));
    }
  };

  const resync = async (fields) => {
    document.getElementById("resync-close").focus(); // a button that is disabled loses the focus to nowhere
    act.disabled = true;
    try {
      const report = await post(fields);
      const decision = report.decisions[0];
      offer(null);
      const started = decision?.choice === "Sync" && ["accepted", "unknown"].includes(decision.outcome);
      show(
        element("p", {}, element("b", {}, started ? "The sync was accepted." : "No sync was started.")),
        paragraph(decision?.message ?? "", started ? "answer" : "answer wrong"),
        list(report),
      );
      if (started) follow(report);
      refresh();
    } catch (error) {
      offer(null);
      show(paragraph(`The resync failed. ${error.message}`, "answer wrong"));
    }
  };

  const follow = (first) => {
    const opened = gateway;
    const bar = element("progress", { max: 1 });
    bar.setAttribute("aria-label", "Connections that meet the expected certificate");
    const told = paragraph("", "facts");
    body.append(bar, told);
    const draw = (report) => {
      const verdicts = covered(report);
      const all = verdicts.reduce((sum, verdict) => sum + total(verdict), 0);
      const good = verdicts.reduce((sum, verdict) => sum + met(verdict), 0);
      const done = verdicts.length > 0 && good === all;
      bar.max = all || 1;
      bar.value = good;
      body.querySelector("ul").replaceWith(list(report));
      told.textContent = done
        ? "Every connection meets the expected certificate."
        : `${good} of ${count(all, "connection")} meet the expected certificate. Looked ${new Date(now()).toISOString().slice(11, 19)} UTC, again in 15 s. Closing this stops nothing.`;
      return done;
    };
    const again = async () => {
      if (gateway !== opened) return;
      try {
        if (draw(await post({ dry_run: true }))) return;
      } catch (error) {
        told.textContent = `This look failed: ${error.message}. Again in 15 s.`;
      }
      watch = setTimeout(again, WATCH_MS);
    };
    draw(first);
    watch = setTimeout(again, WATCH_MS);
  };

  const openResync = (button) => {
    gateway = { id: button.dataset.gateway };
    document.getElementById("resync-title").textContent = `Resync ${button.dataset.name}`;
    dialog.returnTo = button.id;
    dialog.showModal();
    dryRun();
  };

  if (dialog) {
    document.getElementById("resync-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      clearTimeout(watch);
      gateway = null;
      document.getElementById(dialog.returnTo)?.focus();
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".copy")) copy(button);
    else if (button?.matches(".resync")) openResync(button);
  });
  document.addEventListener("visibilitychange", refresh);

  html.classList.add("script");
  live.textContent = "Live";
  setInterval(refresh, REFRESH_MS);
  setInterval(tick, 1000);
}
