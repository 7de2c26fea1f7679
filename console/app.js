// The console: one page on supabase-js. It holds no rights of its own: everything shown is what the
// signed-in user may see, and every change is a request that the database may refuse.
import { element, show, table, problem, when, number, duration } from "/view.js";

const config = await (await fetch("/config.json")).json();
const api = window.supabase.createClient(location.origin, config.publishable_key);
const main = document.querySelector("#main");
let businesses = [];
let business = null;

/** The data of a request; its error, with the remedy, becomes an exception. */
async function ask(request) {
  const { data, error, count } = await request;
  if (error) throw Object.assign(new Error(error.message), { hint: error.hint, request_id: error.request_id });
  return count === null || count === undefined ? data : { rows: data, count };
}
const may = (permission) => business.permissions.includes(permission);
const mine = (name, columns = "*") => api.from(name).select(columns).eq("business_id", business.business_id);

// Pages ------------------------------------------------------------------------------------------

async function dashboard() {
  const [row] = await ask(mine("business_dashboard_data"));
  if (!row) return [element("p", {}, "Your role does not include figures.")];
  const since = new Date(Date.parse(row.today) - 29 * 86400e3).toISOString().slice(0, 10);
  const days = await ask(mine("daily_metrics", "metric_date,metric,value").eq("dimension", "business")
    .gte("metric_date", since).in("metric", ["calls_inbound", "calls_outbound", "messages_inbound", "messages_outbound"]));
  const card = (label, value) => element("div", { class: "card" }, element("b", {}, number(value)), label);
  return [
    element("h1", {}, `${row.name} today`), element("p", { class: "quiet" }, `${row.today}, ${row.timezone}`),
    element("div", { class: "cards" },
      card("calls today", row.calls_today), card("missed today", row.calls_missed_today), card("messages today", row.messages_today),
      card("open conversations", row.open_conversations), card("unread messages", row.unread_messages),
      card("new customers today", row.new_customers_today), card("customers", row.customer_count), card("calls in 30 days", row.calls_30_days)),
    element("h2", {}, "Calls, last 30 days"), chart(days.filter((d) => d.metric.startsWith("calls")), row.today),
    element("h2", {}, "Messages, last 30 days"), chart(days.filter((d) => d.metric.startsWith("messages")), row.today),
  ];
}

function chart(days, today) {
  const totals = new Map();
  for (const d of days) totals.set(d.metric_date, (totals.get(d.metric_date) ?? 0) + d.value);
  const dates = Array.from({ length: 30 }, (_, n) => new Date(Date.parse(today) - (29 - n) * 86400e3).toISOString().slice(0, 10));
  const top = Math.max(1, ...dates.map((d) => totals.get(d) ?? 0));
  const bars = dates.map((date, n) => {
    const value = totals.get(date) ?? 0;
    const height = (value / top) * 130;
    return element("svg:rect", { x: n * 33 + 4, y: 140 - height, width: 27, height, rx: 2 }, element("svg:title", {}, `${date}: ${value}`));
  });
  return element("div", { class: "card" }, element("svg:svg", { class: "chart", viewBox: "0 0 1000 160", role: "img", "aria-label": "Bars per day" },
    ...bars, element("svg:text", { x: 2, y: 156 }, dates[0]), element("svg:text", { x: 996, y: 156, "text-anchor": "end" }, `${dates[29]}, highest ${top}`)));
}

async function customers(parameters) {
  const query = parameters.get("q") ?? "";
  const rows = query.trim().length >= 2
    ? await ask(api.rpc("search_customers", { business_id: business.business_id, query, max_results: 50 }))
    : await ask(mine("customers").is("deleted_at", null).order("created_at", { ascending: false }).limit(50));
  const search = element("form", { class: "row", role: "search" },
    element("input", { name: "q", type: "search", value: query, placeholder: "Name, number, address, city", "aria-label": "Search customers" }),
    element("button", {}, "Search"));
  search.addEventListener("submit", (event) => { event.preventDefault(); go("customers", { q: new FormData(search).get("q") }); });
  const parts = [element("h1", {}, "Customers"), search];
  if (may("customers.write")) parts.push(newCustomer());
  parts.push(table(["Name", "Phone", "E-mail", "Stage", "Since"], rows.map((c) => [
    link("customer", { id: c.id }, c.display_name), c.primary_phone, c.primary_email, element("span", { class: "badge" }, c.lifecycle_stage), when(c.created_at)])));
  return parts;
}

function newCustomer() {
  const form = element("form", { class: "row" },
    element("input", { name: "first_name", placeholder: "First name", "aria-label": "First name" }),
    element("input", { name: "last_name", placeholder: "Last name", "aria-label": "Last name" }),
    element("input", { name: "phone", placeholder: "Phone", "aria-label": "Phone" }),
    element("input", { name: "email", placeholder: "E-mail", "aria-label": "E-mail" }),
    element("button", { class: "main" }, "Add customer"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector(".problem")?.remove();
    const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    try {
      const made = await ask(api.rpc("create_customer", { business_id: business.business_id, source: "console", ...fields }));
      go("customer", { id: made.id });
    } catch (error) { form.append(problem(error)); }
  });
  return form;
}

async function customer(parameters) {
  const id = parameters.get("id");
  const [[row], points, calls, threads] = await Promise.all([
    ask(mine("customer_summary").eq("id", id)), ask(mine("contact_points").eq("customer_id", id)),
    may("calls.read") ? ask(mine("calls").eq("customer_id", id).order("started_at", { ascending: false }).limit(20)) : [],
    may("conversations.read") ? ask(mine("conversation_threads").eq("customer_id", id).order("last_message_at", { ascending: false }).limit(20)) : []]);
  if (!row) return [element("p", {}, "There is no such customer.")];
  return [element("h1", {}, row.display_name),
    element("p", { class: "quiet" }, `${row.lifecycle_stage}, ${number(row.call_count)} calls, ${number(row.message_count)} messages, last seen ${when(row.last_interaction_at) || "never"}`),
    element("h2", {}, "Addresses"), table(["Kind", "Address", "Opted out"], points.map((p) => [p.kind, p.normalized, when(p.opted_out_at)])),
    element("h2", {}, "Conversations"), threadTable(threads), element("h2", {}, "Calls"), callTable(calls)];
}

const threadTable = (rows) => table(["Customer", "Channel", "Last message", "Unread", "Status", "When"], rows.map((t) => [
  link("conversation", { id: t.id }, t.customer_name ?? t.peer), t.channel_kind, t.last_message_preview,
  t.unread_count ? element("span", { class: "badge" }, number(t.unread_count)) : "", t.status, when(t.last_message_at)]));

async function inbox() {
  return [element("h1", {}, "Inbox"),
    threadTable(await ask(mine("conversation_threads").order("last_message_at", { ascending: false, nullsFirst: false }).limit(50)))];
}

async function conversation(parameters) {
  const id = parameters.get("id");
  const [[thread], messages] = await Promise.all([ask(mine("conversation_threads").eq("id", id)),
    ask(mine("messages").eq("conversation_id", id).order("occurred_at", { ascending: false }).limit(200))]);
  if (!thread) return [element("p", {}, "There is no such conversation.")];
  if (thread.unread_count && may("conversations.write")) await ask(api.rpc("mark_conversation_read", { business_id: business.business_id, conversation_id: id }));
  return [element("h1", {}, `${thread.customer_name ?? thread.peer} by ${thread.channel_kind}`),
    element("p", { class: "quiet" }, `${thread.status}, ${number(thread.message_count)} messages on ${thread.channel_name}`),
    element("div", { class: "bubbles" }, ...messages.reverse().map((m) =>
      element("div", { class: `bubble ${m.direction}` }, m.body || "(no text)", element("small", {}, `${when(m.occurred_at)}, ${m.status}`))))];
}

const callTable = (rows) => table(["Who", "Direction", "Status", "Outcome", "Length", "When"], rows.map((c) => [
  c.customer_id ? link("customer", { id: c.customer_id }, c.peer) : c.peer, c.direction, c.status, c.outcome, duration(c.duration_seconds), when(c.started_at)]));

async function calls() {
  return [element("h1", {}, "Calls"), callTable(await ask(mine("calls").order("started_at", { ascending: false }).limit(50)))];
}

async function members() {
  const [rows, people, invitations] = await Promise.all([
    ask(mine("business_memberships", "id,user_id,status,joined_at,membership_roles(roles(name))").neq("status", "removed")),
    ask(api.from("profiles").select("user_id,full_name,last_login_at")), ask(mine("invitations").eq("status", "pending"))]);
  const profile = new Map(people.map((p) => [p.user_id, p]));
  return [element("h1", {}, "Members"),
    table(["Name", "Roles", "Status", "Joined", "Last sign-in"], rows.map((m) => [profile.get(m.user_id)?.full_name ?? m.user_id,
      m.membership_roles.map((r) => r.roles?.name).join(", "), m.status, when(m.joined_at), when(profile.get(m.user_id)?.last_login_at)])),
    element("h2", {}, "Open invitations"), table(["Address", "Until"], invitations.map((i) => [i.email_normalized, when(i.expires_at)]))];
}

async function events() {
  const rows = await ask(mine("webhook_events", "id,kind,provider,provider_event_id,status,attempts,error,received_at").order("received_at", { ascending: false }).limit(50));
  return [element("h1", {}, "Provider events"),
    table(["Kind", "Event", "Status", "Tries", "Problem", "When"], rows.map((e) => [e.kind, e.provider_event_id, element("span", { class: "badge" }, e.status), number(e.attempts), e.error, when(e.received_at)]))];
}

// Frame ------------------------------------------------------------------------------------------

const pages = {
  dashboard: { page: dashboard, tab: "Dashboard", needs: "metrics.read" }, inbox: { page: inbox, tab: "Inbox", needs: "conversations.read" },
  customers: { page: customers, tab: "Customers", needs: "customers.read" }, calls: { page: calls, tab: "Calls", needs: "calls.read" },
  members: { page: members, tab: "Members", needs: "members.read" }, events: { page: events, tab: "Events", needs: "integrations.read" },
  customer: { page: customer, needs: "customers.read" }, conversation: { page: conversation, needs: "messages.read" },
};

const address = (page, parameters = {}) => `#${page}?${new URLSearchParams({ business: business.business_id, ...parameters })}`;
const link = (page, parameters, text) => element("a", { href: address(page, parameters) }, text);
const go = (page, parameters) => { location.hash = address(page, parameters); };

async function draw() {
  const [name, search] = location.hash.slice(1).split("?");
  const parameters = new URLSearchParams(search);
  business = businesses.find((b) => b.business_id === parameters.get("business")) ?? businesses[0];
  const allowed = Object.entries(pages).filter(([, p]) => may(p.needs)).map(([key]) => key);
  const current = allowed.includes(name) ? name : allowed[0];
  document.querySelector("#business").value = business.business_id;
  show(document.querySelector("#tabs"), ...allowed.filter((key) => pages[key].tab).map((key) =>
    element("a", { href: address(key), ...(key === current ? { "aria-current": "page" } : {}) }, pages[key].tab)));
  if (!current) return show(main, element("p", {}, "Your role shows nothing here."));
  try { show(main, ...await pages[current].page(parameters)); } catch (error) { show(main, problem(error)); }
}

function signIn() {
  document.querySelector("#bar").hidden = true;
  const form = element("form", { class: "card" }, element("h1", {}, "Tenantry"),
    element("input", { name: "email", type: "email", required: "", autocomplete: "username", placeholder: "E-mail", "aria-label": "E-mail" }),
    element("input", { name: "password", type: "password", required: "", autocomplete: "current-password", placeholder: "Password", "aria-label": "Password" }),
    element("button", { class: "main" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector(".problem")?.remove();
    const { error } = await api.auth.signInWithPassword(Object.fromEntries(new FormData(form)));
    if (error) form.append(problem(error)); else start();
  });
  show(main, form);
}

async function start() {
  const { data: { session } } = await api.auth.getSession();
  if (!session) return signIn();
  try { businesses = await ask(api.rpc("my_businesses")); } catch (error) { return show(main, problem(error)); }
  document.querySelector("#who").textContent = session.user.email;
  document.querySelector("#bar").hidden = false;
  if (!businesses.length) return show(main, element("p", {}, "You do not belong to a business yet. Ask for an invitation."));
  show(document.querySelector("#business"), ...businesses.map((b) => element("option", { value: b.business_id }, b.name)));
  draw();
}

document.querySelector("#business").addEventListener("change", (event) => {
  business = businesses.find((b) => b.business_id === event.target.value);
  go(location.hash.slice(1).split("?")[0] || "dashboard");
});
document.querySelector("#sign-out").addEventListener("click", async () => { await api.auth.signOut(); location.hash = ""; signIn(); });
window.addEventListener("hashchange", () => businesses.length && draw());
start();
