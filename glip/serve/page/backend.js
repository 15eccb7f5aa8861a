// Boxes from the server of glip serve.

const $ = (id) => document.getElementById(id);

function headers() {
  const key = $("key").value || sessionStorage.getItem("glip-key") || "";
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  let content = null;
  try {
    content = await response.json();
  } catch { /* told below */ }
  if (response.status === 401) {
    $("key-line").hidden = false;
    $("key").focus();
  }
  if (!response.ok || content === null) {
    throw new Error(content?.error?.message ?? `The server answers ${response.status}.`);
  }
  if ($("key").value) sessionStorage.setItem("glip-key", $("key").value);
  return content;
}

/** The model: its name, threshold, learned tasks and the colours of phrases. */
export async function readModel() {
  $("programs").hidden = false;
  return call("v1/model");
}

/** All boxes of a photo, those that hardly score too: the slider hides them without asking again. */
export async function find(photo, { text, task, signal }) {
  const form = new FormData();
  form.append("image", photo.blob, photo.name);
  form.append("threshold", "0");
  if (task) form.append("task", task);
  else form.append("caption", text);
  return call(task ? "v1/detect" : "v1/ground", { method: "POST", body: form, signal });
}
