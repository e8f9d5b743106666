// What one principal may do on the broker's topics: the policies that apply to it, with its own values filled in.
//
// Made on the core thread (policy.h) at CONNECT and whenever an attachment, a tag or a group it uses changes; from then on
// it is read by any thread. A new version of one of its policies is seen by it at once (its permit_version changes).
// Deny beats allow; what nothing allows is refused. The server's own `$muster/` topics are not governed by permits: a
// device has them by being that device, and no topic that begins with '$' is ever permitted here. Nor is anybody permitted
// to publish under `devices/`, where the server mirrors what devices say.
#ifndef DOMAIN_PERMIT_H
#define DOMAIN_PERMIT_H

#include "base/slice.h"
#include "core/principal.h"

struct permit;
struct permit *permit_ref(struct permit *p); // NULL stays NULL
void permit_unref(struct permit *p);         // any thread; NULL is allowed

// All take the principal's own topic or filter, without a tenant; any thread; linear in its length times the number of
// rules. NULL permits nothing.
bool permit_publish(const struct permit *p, struct slice topic);
bool permit_retain(const struct permit *p,
                   struct slice topic); // publishing with the retain flag; besides permit_publish
// May it subscribe to this filter (of a shared subscription: the part behind its name)? Inclusion, not intersection: every
// topic the filter can match must be allowed, by one rule as a whole; a deny rule refuses it when it covers the filter, and
// else takes effect message by message (permit_receive).
bool permit_subscribe(const struct permit *p, struct slice filter);
// What was subscribed may be received, unless a deny rule (of subscribe or receive) matches the topic.
bool permit_receive(const struct permit *p, struct slice topic);
// Changes whenever what it allows may have changed; 0 is no permit. Read it before asking the permit: what was answered
// after it is then never older than it says.
uint64_t permit_version(const struct permit *p);

enum permit_action { PERMIT_PUBLISH, PERMIT_SUBSCRIBE, PERMIT_RECEIVE, PERMIT_RETAIN, PERMIT_ACTION__COUNT };
const char *permit_action_text(enum permit_action a); // "publish"; never NULL
bool permit_action_parse(struct slice text, enum permit_action *ret);

// The same questions with the rule that decides.
struct permit_why {
    bool allowed;
    bool by_rule;            // else no rule speaks of it, or the server itself decides (text)
    char policy[ID_MAX + 1]; // which document
    unsigned statement;      // in it, from 0
    unsigned topic;          // in the statement, from 0
    const char *text;        // static, one sentence
};
void permit_explain(const struct permit *p, enum permit_action a, struct slice topic, struct permit_why *ret);

// Whose it is; for a permit to be made anew.
enum principal_kind permit_kind(const struct permit *p);
uint32_t permit_tenant(const struct permit *p);
uint64_t permit_row(const struct permit *p);

// The client id it was made for; borrowed from the permit.
struct slice permit_client_id(const struct permit *p);

#endif
