/* What the handlers of configuration objects share: lists, encoding, and the four changes. */
#pragma once
#include "api/api.h"
#include "govern/definition.h"

/* The definition as it may be shown, with name, origin, version and times. NULL: call->err is set.
 */
yyjson_mut_val *api_encode_object(struct api_call *call, const struct object *object);
/* Adds what is not in the definition (a provider's status, a key's spend); may be NULL. */
typedef void api_object_extra(struct api_call *call, const struct object *object,
                              yyjson_mut_val *o);

enum rc api_objects_list(struct api_call *call, enum object_kind kind, api_object_extra *extra);
enum rc api_objects_get(struct api_call *call, enum object_kind kind, struct str name,
                        api_object_extra *extra);
/* The name stands in the body: 201. */
enum rc api_objects_create(struct api_call *call, enum object_kind kind);
enum rc api_objects_patch(struct api_call *call, enum object_kind kind, struct str name);
enum rc api_objects_delete(struct api_call *call, enum object_kind kind, struct str name);
/* The versions of the object that the path names, newest first, by ?limit=&cursor=; in the call's
 * arena. _end ends the list that shows them. */
enum rc api_versions_page(struct api_call *call, enum object_kind kind, struct object **versions,
                          size_t *count);
void api_versions_end(struct api_call *call, const struct object *versions, size_t count);
