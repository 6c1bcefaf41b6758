(() => {
  const search = document.getElementById("search"), filter = document.getElementById("filter");
  const count = document.getElementById("count");
  const rows = [...document.querySelectorAll("#rows tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const flags = rows.map((row) => row.dataset.flags.split(" "));
  function show() {
    const words = search.value.toLowerCase(), flag = filter.value;
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = (!flag || flags[index].includes(flag)) && texts[index].includes(words);
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  }
  search.addEventListener("input", show);
  filter.addEventListener("change", show);
  show();
})();
