// Reads a chosen file into the text field: UTF-8, or Windows-1251 as spreadsheets in Russia save it.
const file = document.getElementById("file");
document.getElementById("file-field").hidden = false;
file.addEventListener("change", async () => {
  if (!file.files.length) return;
  const bytes = await file.files[0].arrayBuffer();
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    text = new TextDecoder("windows-1251").decode(bytes);
  }
  document.getElementById("sheet").value = text;
});
