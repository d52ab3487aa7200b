//! What a request does that memory does not answer: lead a run or wait for one, and fall back on what is stale, or leave it
//! to a run behind a placeholder.

use std::sync::Arc;

use tower_service::Service;

use crate::{
    clock,
    consult::Whence,
    demands::Demands,
    entry::Course,
    flight::{Boarding, Joined, Landing},
    key::Key,
    placeholder::fill_behind,
    protocol::{Capture, Prepare, Role},
    route::{Route, Settings},
    run,
    seeker::{Forced, Led, Seeker},
    service::refresh_behind,
    sighting::{Behind, Sighting},
    status::{Detail, Outcome},
    store::{Budget, tier::Tier},
};

/// Answers a request for which nothing was found that is fresh, or may be served stale at once.
///
/// What every such request waits in is small: waits that few come to are boxed.
pub(crate) fn answer<S, P, Req>(
    route: Arc<Route<P>>,
    mut service: S,
    key: Key,
    mut request: P::Request,
    view: P::View,
    mut seen: Sighting<P::Value>,
    budget: Option<Budget>,
) -> impl Future<Output = Result<P::Response, S::Error>> + Send + use<S, P, Req>
where
    P: Prepare<Req> + Capture<S::Response>,
    P::Response: Send + 'static,
    S: Service<P::Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: 'static,
{
    let (by_hand, demands) = (route.protocol.is_forced(&view), route.protocol.demands(&view));
    let new = by_hand || demands.is_some_and(Demands::are_for_something_new);
    let forced = new.then(|| Forced(route.cache.shared().journal.now()));
    let only_if_cached = !by_hand && demands.is_some_and(|demands| demands.only_if_cached);
    let role = match route.protocol.role(&view) {
        // Its run is a GET as every run is, and answers it.
        Role::Refresh | Role::Part { .. } if by_hand => Role::Lead,
        role => role,
    };
    let status = seen.forward_of(by_hand, demands.is_some(), &route.settings);
    let budget = budget.or_else(|| route.cache.shared().tier.as_ref().map(Tier::budget));
    let mut seeker = Seeker { route, key, view, status, forced, by_hand, came: seen.now, budget };
    let flights = Arc::clone(&seeker.route.cache.shared().flights);
    let (mut alone, mut panics, mut fields) = (false, 0, None);
    // How often what the shared store holds will do: what does not answer is to be replaced, and may be elsewhere by now. And
    // whether the answer was found there.
    let (mut takes, mut found) = (if forced.is_none() { 2 } else { 0 }, None);
    async move {
        if (role != Role::Lead || only_if_cached) && seeker.is_unvouched_for(&seen) {
            (seen, found, request) = Box::pin(seeker.verify(request)).await;
        }
        loop {
            // ## Looking => (Leading | Following | done: found, stood in for, or by itself)
            if let Some((outcome, behind)) = seeker.hit(&seen)
                && let Some(response) = seeker.replay(&seen, outcome.because(outcome.detail().or(found)))
            {
                if behind == Behind::Refresh {
                    refresh_behind(&seeker.route, &service, &seen, request, &seeker.view);
                }
                return Ok(response);
            }
            if only_if_cached && let Some(response) = seeker.unsatisfied() {
                return Ok(response);
            }
            let course =
                Course { key: seeker.key.clone(), variant: seeker.route.variant(&seen, fields.as_ref(), &request) };
            let apart = alone || seeker.route.protocol.keeps_apart(&seeker.view) || seen.keeps_apart();
            let together = !apart && (!seeker.route.settings.opt_in || seen.slot.is_some());
            if together && seeker.forced.is_none() && seeker.route.stands_in(role, &seen) {
                let overdue = seeker.route.settings.overdue();
                let lead =
                    if seen.is_backing_off() { None } else { flights.lead(&course, Boarding::Open, seen.now, overdue) };
                if let Some(lead) = &lead
                    && let Err(changed) = seeker.look_again(&seen, lead, fields.as_ref(), &request)
                {
                    seen = changed;
                    continue;
                }
                if let Some(response) = seeker.stand_in() {
                    if let Some(lead) = lead {
                        fill_behind(&seeker.route, &service, &seen, request, lead);
                    }
                    return Ok(response);
                }
            }
            if !run::can_start() {
                return Box::pin(seeker.forward((service, request), None, &seen)).await;
            }
            if let Role::Part { fill } = role
                && (alone || !seen.calls_for_the_whole(fill))
            {
                return Box::pin(seeker.forward((service, request), Some(Detail::Range), &seen)).await;
            }
            let joined = match role {
                Role::Lead | Role::Part { .. } if together => flights.join(&course),
                Role::Lead | Role::Part { .. } => Joined::Lead(flights.solo(&course)),
                Role::Refresh | Role::Read => match flights.follow_one(&course).filter(|_| together) {
                    Some(follow) => Joined::Follow(follow),
                    None => {
                        let detail = if role == Role::Read { Detail::RequestNoStore } else { Detail::Head };
                        return Box::pin(seeker.forward((service, request), Some(detail), &seen)).await;
                    }
                },
            };
            let mut follow = match joined {
                Joined::Follow(follow) => follow,
                // ## Leading => (Looking: something landed meanwhile | done: led)
                Joined::Lead(lead) => {
                    let (again, has_changed) = match seeker.look_again(&seen, &lead, fields.as_ref(), &request) {
                        Ok(again) => (again, false),
                        Err(changed) => (Some(changed), true),
                    };
                    seen = again.unwrap_or(seen);
                    if has_changed {
                        continue;
                    }
                    let consult = seeker.consult(takes > 0, together);
                    match seeker.lead(lead, (service, request), &seen, together, consult).await {
                        Led::Answered(answer) => return answer,
                        Led::Found(in_place_of_a_run) => {
                            let (its, entry, whence) = *in_place_of_a_run;
                            ((service, request), takes) = (its, takes - 1);
                            found = (whence == Whence::Store).then_some(Detail::Store);
                            seen = seeker.look_at(entry, &request);
                        }
                    }
                    continue;
                }
            };
            // ## Following => (Looking: together, or alone | done: landed, or stale)
            let Settings { soft_timeout, wait_timeout, .. } = seeker.route.settings;
            let soft = soft_timeout.filter(|soft| *soft < wait_timeout && seeker.may_fall_back(&seen));
            let mut landing = clock::timeout(soft.unwrap_or(wait_timeout), &mut follow).await;
            if landing.is_none()
                && let Some(soft) = soft
            {
                if let Some(response) = seeker.fall_back(&seen, None, Detail::Slow) {
                    return Ok(response);
                }
                // What there was to fall back on is gone by now: it waits like one who never had any.
                landing = clock::timeout(wait_timeout - soft, &mut follow).await;
            }
            if seeker.forced.is_some_and(|forced| follow.began_before(forced.0)) {
                // What it landed is too old. Whoever comes first from here on leads, and the others join that run.
                if landing.is_none() {
                    follow.give_up(&flights);
                }
                (seen, request) = Box::pin(seeker.look(request)).await;
                continue;
            }
            let failure = match &landing {
                None => Some(Detail::Slow),
                Some(Landing::Shared(landed)) => landed.entry.judged.failed.then_some(Detail::StaleIfError),
                Some(Landing::Failed(_) | Landing::Panicked) => Some(Detail::StaleIfError),
                Some(Landing::Personal | Landing::Vacated) => None,
            };
            if let Some(detail) = failure
                && let Some(response) = seeker.fall_back(&seen, None, detail)
            {
                return Ok(response);
            }
            match landing {
                Some(Landing::Shared(landed)) => {
                    let fits = seeker.route.selects(&landed.entry, &request);
                    if fits && !follow.came_after_invalidation(&landed) {
                        return Ok(seeker.share(&landed));
                    }
                    // Those it does not fit go on by variant: memory may not have kept what selects among them.
                    fields = landed.entry.judged.fields.clone().or(fields);
                }
                Some(Landing::Personal) => alone = true,
                Some(Landing::Failed(error)) => match seeker.shared_error(error) {
                    Some(error) => {
                        seeker.answered(Outcome::new(status).collapsed_if(true));
                        return Err(error);
                    }
                    None => alone = true,
                },
                Some(Landing::Panicked) => {
                    // One of those who waited leads. Should that panic as well, nobody waits for a third time.
                    panics += 1;
                    alone = panics > 1;
                }
                Some(Landing::Vacated) => {}
                None => follow.give_up(&flights),
            }
            (seen, request) = Box::pin(seeker.look(request)).await;
        }
    }
}
