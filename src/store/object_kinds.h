/* OBJECT_KIND(name, text, versions kept, members that hold secrets, members never shown): the kinds
 * of configuration objects. A secret member is a text, a list of texts, or an object of which those
 * count whose name says so (authorization, …key, …token, …secret, cookie). */
OBJECT_KIND(PROVIDER, "provider", true, "api_key api_keys headers", "")
OBJECT_KIND(ROUTE, "route", true, "", "")
OBJECT_KIND(KEY, "key", false, "", "secret_sha256")
OBJECT_KIND(LIMIT, "limit", false, "", "")
OBJECT_KIND(PRICE, "price", true, "", "")
OBJECT_KIND(SETTING, "setting", true, "", "")
OBJECT_KIND(MODEL, "model", false, "", "")
OBJECT_KIND(PROMPT, "prompt", true, "", "")
OBJECT_KIND(PIPELINE, "pipeline", true, "", "")
OBJECT_KIND(TRIGGER, "trigger", false, "secret", "")
OBJECT_KIND(COLLECTION, "collection", true, "", "")
OBJECT_KIND(TOOL, "tool", true, "headers fixed", "")
