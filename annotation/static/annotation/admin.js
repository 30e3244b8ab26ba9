// Keeps the progress bars of running jobs up to date without a reload.
(function () {
  "use strict";
  const ACTIVE = new Set(["queued", "running"]);
  const rows = () => [...document.querySelectorAll(".job[data-job]")].filter((row) => ACTIVE.has(row.dataset.state));

  async function refresh(row) {
    const reply = await fetch("/api/jobs/" + row.dataset.job + "/", { headers: { Accept: "application/json" } });
    if (!reply.ok) return;
    const job = await reply.json();
    const bar = row.querySelector("progress");
    bar.max = job.total || 1;
    bar.value = job.state === "done" && !job.total ? bar.max : job.done;
    row.querySelector(".job-note").textContent = job.note;
    const ended = ACTIVE.has(row.dataset.state) && !ACTIVE.has(job.state);
    row.dataset.state = job.state;
    // The rest of the page (outcome, links, next step) is the server's to draw, once, when the job has ended.
    if (ended) window.setTimeout(() => window.location.reload(), 600);
  }

  async function tick() {
    if (!document.hidden) await Promise.allSettled(rows().map(refresh));
    if (rows().length) window.setTimeout(tick, 1000);
  }
  document.addEventListener("DOMContentLoaded", () => { if (rows().length) window.setTimeout(tick, 500); });
})();
