"use strict";
(() => {
  const body = document.body;
  const storageKey = "rayflow-rating-" + body.dataset.export;
  const tasks = [...document.querySelectorAll(".task")];
  const find = (id) => document.getElementById(id);
  const rater = find("rater"), said = find("said"), progress = find("progress"), shortcuts = find("shortcuts");
  let state = { rater: "", at: 0, answers: {} };

  const responses = (task) => [...task.querySelectorAll(".rated")];
  const chosen = (scope, kind) => scope.querySelector(`input[data-kind="${kind}"]:checked`);
  const value = (input) => (input ? input.value : null);

  function collect(task) {
    return {
      quality: responses(task).map((each) => (chosen(each, "quality") ? Number(chosen(each, "quality").value) : null)),
      best: value(chosen(task, "best")),
      comment: task.querySelector("textarea").value,
    };
  }
  const begun = (a) => a && (a.best !== null || a.comment !== "" || a.quality.some((q) => q !== null));
  const finished = (a) => Boolean(a) && a.best !== null && a.quality.every((q) => q !== null);
  const numFinished = () => tasks.filter((task) => finished(state.answers[task.id])).length;

  function keep() {
    try {
      localStorage.setItem(storageKey, JSON.stringify(state));
    } catch {
      find("not-kept").hidden = false;
    }
  }

  function load() {
    try {
      const stored = JSON.parse(localStorage.getItem(storageKey));
      if (stored && typeof stored.answers === "object") state = { ...state, ...stored };
    } catch {
      find("not-kept").hidden = false;
    }
    rater.value = state.rater;
    for (const task of tasks) {
      // Also where there is none: some browsers fill in anew what was there before a page was loaded again.
      const answer = state.answers[task.id] || { quality: [], best: null, comment: "" };
      responses(task).forEach((each, i) => check(each, "quality", answer.quality[i] ?? null));
      check(task, "best", answer.best);
      task.querySelector("textarea").value = answer.comment;
    }
  }

  function check(scope, kind, wanted) {
    for (const input of scope.querySelectorAll(`input[data-kind="${kind}"]`))
      input.checked = wanted !== null && input.value === String(wanted);
  }

  function refresh() {
    const done = numFinished();
    progress.value = done;
    find("count").textContent = `${done} of ${tasks.length} tasks finished`;
    const task = tasks[state.at];
    const next = responses(task).find((each) => !chosen(each, "quality"));
    for (const each of responses(task)) each.classList.toggle("current", each === next);
    find("previous").disabled = state.at === 0;
    find("next").disabled = state.at === tasks.length - 1;
  }

  function changed(task, words) {
    const answer = collect(task);
    if (begun(answer)) state.answers[task.id] = answer;
    else delete state.answers[task.id];
    keep();
    refresh();
    said.textContent = words || "";
  }

  function show(index, focus) {
    state.at = Math.max(0, Math.min(tasks.length - 1, index));
    tasks.forEach((task, i) => { task.hidden = i !== state.at; });
    keep();
    refresh();
    said.textContent = "";
    if (focus) tasks[state.at].querySelector("h2").focus();
    window.scrollTo(0, 0);
  }

  function save() {
    if (!rater.value.trim()) {
      said.textContent = "Enter your name or number first, so that your answers can be told from others'.";
      rater.focus();
      return;
    }
    const answers = tasks.filter((task) => state.answers[task.id])
      .map((task) => ({ task: task.id, ...state.answers[task.id] }));
    const content = {
      format: 1, export: body.dataset.export, rater: rater.value.trim(), saved: new Date().toISOString(), answers,
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
    link.download = `answers-${rater.value.trim().replace(/[^\p{L}\p{N}._-]+/gu, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    said.textContent = `Saved ${numFinished()} of ${tasks.length} finished tasks to ${link.download}.`;
  }

  function clear(event) {
    const button = event.currentTarget;
    if (button.dataset.asked) {
      state = { rater: "", at: 0, answers: {} };
      keep();
      location.reload();
      return;
    }
    button.dataset.asked = "yes";
    button.textContent = "Really delete all answers?";
    said.textContent = "Press the button once more to delete all answers in this browser. Saved files stay.";
  }

  function press(event) {
    const typing = event.target.matches("textarea, input[type=text]");
    if (event.repeat) return;  // a key held down is one answer, not the next tasks' too
    if (!shortcuts.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase(), task = tasks[state.at];
    if (/^[1-5]$/.test(key)) {
      const unrated = responses(task).find((each) => !chosen(each, "quality"));
      const target = unrated || document.activeElement.closest(".rated");
      if (!target) { said.textContent = "All responses are rated. Press u to rate them anew."; return; }
      check(target, "quality", key);
      changed(task, `${target.dataset.name} rated ${key}.`);
    } else if (key === "j") show(state.at + 1, true);
    else if (key === "k") show(state.at - 1, true);
    else if (key === "u") {
      responses(task).forEach((each) => check(each, "quality", null));
      check(task, "best", null);
      changed(task, "This task's answers are cleared.");
    } else {
      const wanted = key === "n" ? "none" : key.toUpperCase();
      const input = [...task.querySelectorAll('input[data-kind="best"]')].find((each) => each.value === wanted);
      if (!input) return;
      input.checked = true;
      changed(task, `Best: ${input.parentElement.textContent.trim()}.`);
    }
    event.preventDefault();
  }

  load();
  for (const task of tasks) {
    task.addEventListener("change", () => changed(task));
    task.querySelector("textarea").addEventListener("input", () => changed(task));
  }
  rater.addEventListener("input", () => { state.rater = rater.value; keep(); });
  find("previous").addEventListener("click", () => show(state.at - 1, true));
  find("next").addEventListener("click", () => show(state.at + 1, true));
  find("save").addEventListener("click", save);
  find("clear").addEventListener("click", clear);
  document.addEventListener("keydown", press);
  show(state.at, false);
})();
