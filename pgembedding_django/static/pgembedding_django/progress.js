"use strict";
{
    const show = ({id, done, percent, words}) => {
        const item = document.getElementById(`run-${id}`);
        const bar = item.querySelector("progress");
        if (percent === null && !done) {
            bar.removeAttribute("value");
        } else {
            bar.value = percent ?? 0;
        }
        item.querySelector("[role=status]").textContent = words;
    };

    // A server that restarts, or a session that ended, answers with something else: ask again.
    const ask = (url) => fetch(url).then((answer) => answer.json()).catch(() => ({runs: [], done: false}));

    const poll = async (url) => {
        const {runs, done} = await ask(url);
        runs.forEach(show);
        if (done) {
            // The page itself tells how it ended.
            window.location.reload();
        } else {
            window.setTimeout(poll, 1000, url);
        }
    };

    document.addEventListener("DOMContentLoaded", () => {
        poll(document.querySelector("[data-progress]").dataset.progress);
    });
}
