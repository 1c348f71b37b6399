/* Intrusive doubly linked list. State is membership: an object is on exactly one list of its kind.
 */
#pragma once
#include "base/base.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *head) { head->prev = head->next = head; }
static inline bool list_empty(const struct list *head) { return head->next == head; }
/* True for a node that was initialised (or removed) and is on no list. */
static inline bool list_detached(const struct list *node) { return node->next == node; }

static inline void list_add_after(struct list *at, struct list *node)
{
    node->prev = at;
    node->next = at->next;
    at->next->prev = node;
    at->next = node;
}

static inline void list_push_front(struct list *head, struct list *node)
{
    list_add_after(head, node);
}
static inline void list_push_back(struct list *head, struct list *node)
{
    list_add_after(head->prev, node);
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
#define LIST_FIRST(head, type, member)                                                             \
    (list_empty(head) ? NULL : LIST_ENTRY((head)->next, type, member))
#define LIST_FOR_EACH(item, head, type, member)                                                    \
    for (type *item = LIST_ENTRY((head)->next, type, member); &item->member != (head);             \
         item = LIST_ENTRY(item->member.next, type, member))
/* The current item may be removed or freed. */
#define LIST_FOR_EACH_SAFE(item, head, type, member)                                               \
    for (type *item = LIST_ENTRY((head)->next, type, member),                                      \
              *item##_next = LIST_ENTRY(item->member.next, type, member);                          \
         &item->member != (head);                                                                  \
         item = item##_next, item##_next = LIST_ENTRY(item->member.next, type, member))
