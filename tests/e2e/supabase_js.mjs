// What a front end does with supabase-js; prints one JSON object that the test reads.
import { createClient } from "@supabase/supabase-js";

const { API_URL, PUBLISHABLE_KEY, RUN } = process.env;
const make = () => createClient(API_URL, PUBLISHABLE_KEY, { auth: { persistSession: false, autoRefreshToken: false } });
const must = ({ data, error }) => { if (error) throw Object.assign(new Error(error.message), error); return data; };
const facts = {};

const ana = make(), ben = make();
const email = (name) => `${name}-${RUN}@people.example`;
const signedUp = must(await ana.auth.signUp({ email: email("ana"), password: "a-good-password", options: { data: { full_name: "Ana Front" } } }));
facts.session_after_sign_up = Boolean(signedUp.session);
must(await ben.auth.signUp({ email: email("ben"), password: "a-good-password" }));

const organization = must(await ana.rpc("create_organization", { name: `Front ${RUN}`, country: "DE" }));
const business = must(await ana.rpc("create_business", { organization_id: organization.id, name: "Shop", timezone: "Europe/Berlin", country: "DE", currency: "EUR" }));
facts.slug = business.slug;
facts.profile = must(await ana.from("profiles").select("full_name").eq("user_id", signedUp.user.id).single()).full_name;

const [invitation] = must(await ana.rpc("invite_member", { business_id: business.id, email: email("ben"), role: "viewer" }));
facts.ben_before = must(await ben.from("businesses").select("id")).length;
must(await ben.rpc("accept_invitation", { token: invitation.token }));
facts.ben_after = must(await ben.from("businesses").select("id")).length;
facts.second_accept = (await ben.rpc("accept_invitation", { token: invitation.token })).status;

const created = must(await ana.from("customers").insert({ business_id: business.id, first_name: "Jörg", last_name: "Müller" }).select().single());
must(await ana.from("contact_points").insert({ business_id: business.id, customer_id: created.id, kind: "phone", raw: "030 901820" }));
facts.embedded = must(await ana.from("customers").select("display_name,primary_phone,contact_points(kind,normalized)").eq("business_id", business.id));
facts.updated = must(await ana.from("customers").update({ lifecycle_stage: "customer" }).eq("business_id", business.id).eq("id", created.id).select("lifecycle_stage").single()).lifecycle_stage;
facts.upserted = must(await ana.from("customers").select("*", { count: "exact", head: true }).eq("business_id", business.id)) === null;
facts.found = must(await ana.rpc("search_customers", { business_id: business.id, query: "mull" })).map((c) => c.display_name);
facts.viewer_reads = must(await ben.from("customer_summary").select("display_name").eq("business_id", business.id)).length;
const refused = await ben.from("customers").insert({ business_id: business.id, first_name: "No" });
facts.viewer_writes = refused.status;
const wrong = await ana.rpc("create_customer", { business_id: business.id, phone: "12" });
facts.bad_phone = { status: wrong.status, message: wrong.error.message, hint: wrong.error.hint };
facts.deleted = must(await ana.from("customers").delete().eq("business_id", business.id).eq("id", created.id).select("id")).length;

const membership = must(await ana.from("business_memberships").select("id,user_id").eq("business_id", business.id)).find((m) => m.user_id !== signedUp.user.id);
must(await ana.rpc("remove_member", { business_id: business.id, membership_id: membership.id }));
facts.ben_removed = must(await ben.from("businesses").select("id")).length;

await ana.auth.signOut();
facts.after_sign_out = (await ana.from("customers").select("id")).status;
const again = make();
facts.wrong_password = (await again.auth.signInWithPassword({ email: email("ana"), password: "wrong" })).error?.status;
facts.sign_in = Boolean(must(await again.auth.signInWithPassword({ email: email("ana"), password: "a-good-password" })).session);
console.log(JSON.stringify(facts));
