// What an application does with supabase-js, unchanged: prints facts without ids.
import { createClient } from "@supabase/supabase-js";

const { URL, KEY, TOKEN, BUSINESS } = process.env;
const client = createClient(URL, KEY, { accessToken: async () => TOKEN });
const facts = {};
const must = ({ data, error, status }) => {
  if (error) throw new Error(`${status} ${JSON.stringify(error)}`);
  return data;
};

const business_id = BUSINESS;
const made = must(await client.from("customers").insert({ business_id, first_name: "Jörg", last_name: "Müller" }).select().single());
facts.columns = Object.keys(made).sort();
must(await client.from("contact_points").insert({ business_id, customer_id: made.id, kind: "phone", raw: "+49 30 901820" }));
facts.embedded = must(await client.from("customers").select("display_name,primary_phone,contact_points(kind,normalized),businesses(timezone)").eq("business_id", business_id));
facts.inner = must(await client.from("businesses").select("timezone,customers!inner(display_name)").eq("customers.first_name", "Jörg"));
facts.updated = must(await client.from("customers").update({ lifecycle_stage: "customer" }).eq("id", made.id).select("lifecycle_stage").single());
facts.counted = (await client.from("customers").select("*", { count: "exact", head: true })).count;
facts.found = must(await client.rpc("search_customers", { business_id, query: "mull" })).map((one) => one.display_name);
facts.created = must(await client.rpc("create_customer", { business_id, first_name: "Bo", phone: "+4930901821" })) !== null;
facts.summary = must(await client.from("customer_summary").select("display_name").order("display_name"));
facts.dashboard = Object.keys(must(await client.from("business_dashboard_data").select("*"))[0] ?? {}).sort();
facts.roles = must(await client.from("roles").select("name").order("name")).map((one) => one.name);
const wrong = await client.rpc("create_customer", { business_id, phone: "12" });
facts.wrong = { status: wrong.status, message: wrong.error.message, hint: wrong.error.hint };
const unknown = await client.from("customers").select("*,nothing(*)");
facts.unknown = { status: unknown.status, code: unknown.error.code, message: unknown.error.message };
facts.missing = (await client.from("customers").select("id").eq("id", business_id).single()).error.code;
facts.deleted = must(await client.from("customers").delete().eq("id", made.id).select("first_name"));
const page = await client.from("customers").select("display_name").range(0, 0);
facts.page = page.data;
facts.explained = (await client.schema("public").from("customers").select("first_name")).status;
console.log(JSON.stringify(facts));
