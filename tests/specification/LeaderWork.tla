------------------------------ MODULE LeaderWork ------------------------------
(* Promises, leases, exclusive leader work and transfer: trioraft/consensus/{election,lease,leader_work,transfer}.py.

   Time is a number of ticks. Everything that is counted from some moment is kept as the number of ticks that
   are left of it, and a Tick takes one from each; clock drift, which the program adds to or takes from these
   durations, is left out. Nothing is urgent: a node, and a message, may sleep between any two steps.

   What only forbids steps is left out: pre-votes, election timeouts and the comparison of logs. A follower is
   heard at once or never, for an answer counts from when its heartbeat was sent; what a message says of leader
   work counts from when it was sent, which is earlier than in the program. Messages may be lost, late and in
   any order; only heartbeats older than a lower election timeout are left out, as they give no lease. A newer
   term is learnt from heartbeats and candidates. A step that writes has written when it ends: its messages wait
   for the disk, so a crash in between looks as if it had been before.

   A leader that is started again where its process was killed says that it leads no more, and that its work has ended
   once it has: "ends". Where Endings is FALSE nothing of that happens, and nothing is remembered for it.

   The cluster's life begins when its first leader has been elected. *)
EXTENDS FiniteSets, Integers, TLC

CONSTANTS Node,
          None,      \* nothing said
          MaxTerm,   \* no election after this term
          Endings,   \* whether leaders that were killed say that they have ended
          Lower,     \* the lower election timeout: how long a promise holds, at least
          Grace      \* stop grace and margin: how long leader work takes to end once the lease has

VARIABLES term, voted,  \* on disk: the current term, and whether the node has voted in it
          longest,      \* on disk: the longest promise ever given
          claimed,      \* on disk: the newest claim of leader work, as long as it was when it was heard
          about,        \* on disk: the term of the leader whose claim that is
          mine,         \* on disk: whether it is the node's own: "no", "waiting" (its work had not begun, and earlier
                        \* work might run), or "alone" (it knew that all earlier work had ended)
          role,         \* "follower", "candidate" or "leader"
          refuse,       \* for how long the node refuses votes
          work,         \* for how long leader work may still run, as far as the node knows
          said,         \* of a candidate to whom leadership was given: what the leader said of work; or None
          heard,        \* of a leader: for how long each follower will refuse votes
          leased,       \* of a leader: whether it ever had a lease
          handover,     \* of a leader: "none", "begun", or "offered" to another node
          own,          \* the node's leader work: "none", "running", "ending", or "succeeded" (ending, and a
                        \* later leader has spoken of work since)
          runs,         \* for how long the node's leader work may really run: its supervisor ends it then
          former,       \* the term that the node led when its process was killed, if all work but its own had ended
          over,         \* all work of this term and before has surely ended, as the node knows
          before,       \* of a leader: the newest term but its own that it knew a leader of
          later,        \* of a leader: for how long work of terms after that may run, as its voters said
          heartbeats, requests, votes, offers, ends  \* messages

disk == <<term, voted, longest, claimed, about, mine>>
ending == <<former, over, before, later>>
leading == <<heard, leased, handover>>
messages == <<heartbeats, requests, votes, offers, ends>>
vars == <<disk, role, refuse, work, said, leading, own, runs, ending, messages>>

Claim == Lower + Grace
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
Largest(numbers) == CHOOSE a \in numbers : \A b \in numbers : a >= b
Less(a) == IF a = None \/ a = 0 THEN a ELSE a - 1

IsQuorum(nodes) == 2 * Cardinality(nodes) > Cardinality(Node)
Leads(n) == role[n] = "leader"

(* A leader's own part of the quorum holds for as long as it leads. *)
Contact(n) == Largest({t \in 0 .. Lower : IsQuorum({n} \union {m \in Node : heard[n][m] >= t})})
Lease(n) == IF Leads(n) /\ handover[n] # "offered" THEN Contact(n) ELSE 0

(* What is noted only for the sake of endings. *)
Noted(what, n, value) == IF Endings THEN [what EXCEPT ![n] = value] ELSE what

Init == /\ \E first \in Node : /\ role = [n \in Node |-> IF n = first THEN "leader" ELSE "follower"]
                              /\ claimed = [n \in Node |-> IF n = first THEN Claim ELSE 0]
                              /\ about = [n \in Node |-> IF n = first /\ Endings THEN 1 ELSE 0]
                              /\ mine = [n \in Node |-> IF n = first /\ Endings THEN "alone" ELSE "no"]
                              /\ heartbeats = {[term |-> 1, from |-> first, claim |-> Claim, left |-> Lower]}
        /\ term = [n \in Node |-> 1] /\ voted = [n \in Node |-> TRUE] /\ longest = [n \in Node |-> 0]
        /\ refuse = [n \in Node |-> 0] /\ work = [n \in Node |-> 0] /\ said = [n \in Node |-> None]
        /\ heard = [n \in Node |-> [m \in Node |-> 0]]
        /\ leased = [n \in Node |-> FALSE] /\ handover = [n \in Node |-> "none"]
        /\ own = [n \in Node |-> "none"] /\ runs = [n \in Node |-> 0]
        /\ former = [n \in Node |-> 0] /\ over = [n \in Node |-> 0]
        /\ before = [n \in Node |-> 0] /\ later = [n \in Node |-> 0]
        /\ requests = {} /\ votes = {} /\ offers = {} /\ ends = {}

------------------------------------------------------------------------------
(* Becoming something *)

EndWork(n) == IF own[n] = "running" THEN "ending" ELSE own[n]

(* Forget what only leaders and candidates know. *)
Follow(n) == /\ role' = [role EXCEPT ![n] = "follower"]
             /\ said' = [said EXCEPT ![n] = None]
             /\ heard' = [heard EXCEPT ![n] = [m \in Node |-> 0]]
             /\ leased' = [leased EXCEPT ![n] = FALSE]
             /\ handover' = [handover EXCEPT ![n] = "none"]

Adopt(n, t, now) == term' = [term EXCEPT ![n] = t] /\ voted' = [voted EXCEPT ![n] = now]

(* Check-quorum, a stuck disk, a transfer that nobody took up, or an answer with a newer term. *)
StepDown(n) == /\ Leads(n)
               /\ Follow(n) /\ own' = [own EXCEPT ![n] = EndWork(n)]
               /\ before' = [before EXCEPT ![n] = 0] /\ later' = [later EXCEPT ![n] = 0]
               /\ UNCHANGED <<disk, refuse, work, runs, former, over, messages>>

(* As if the longest promise, and the newest claim, had been given now. Who led when it was killed leads no more; and
   it has promised nothing to a leader after it. *)
Restart(n) == /\ Follow(n)
              /\ refuse' = [refuse EXCEPT ![n] = IF mine[n] = "no" THEN longest[n] ELSE 0]
              /\ work' = [work EXCEPT ![n] = claimed[n]]
              /\ own' = [own EXCEPT ![n] = "none"]
              /\ former' = [former EXCEPT ![n] = IF mine[n] = "alone" THEN about[n] ELSE 0]
              /\ over' = [over EXCEPT ![n] = 0]
              /\ before' = [before EXCEPT ![n] = 0] /\ later' = [later EXCEPT ![n] = 0]
              /\ ends' = IF mine[n] = "no" THEN ends
                         ELSE ends \union {[term |-> about[n], from |-> n, work |-> FALSE]}
              /\ UNCHANGED <<disk, runs, heartbeats, requests, votes, offers>>

------------------------------------------------------------------------------
(* Elections *)

Campaign(n, word) == /\ term[n] < MaxTerm
                     /\ Adopt(n, term[n] + 1, TRUE)
                     /\ role' = [role EXCEPT ![n] = "candidate"]
                     /\ said' = [said EXCEPT ![n] = word]
                     /\ requests' = requests \union {[term |-> term[n] + 1, from |-> n, transfer |-> word # None]}
                     /\ UNCHANGED <<longest, claimed, about, mine, refuse, work, leading, own, runs, ending,
                                    heartbeats, votes, offers, ends>>

Timeout(n) == ~Leads(n) /\ refuse[n] = 0 /\ Campaign(n, None)

(* TimeoutNow counts in its own term only. *)
TakeOver(n, o) == role[n] = "follower" /\ o.term = term[n] /\ Campaign(n, o.work)

Sticky(n) == Leads(n) \/ refuse[n] > 0
Chosen(n, r) == /\ r.transfer /\ r.term = term[n] + 1
                /\ Leads(n) => handover[n] = "offered"

Vote(n, r) == /\ ~Sticky(n) \/ Chosen(n, r)
              /\ r.term > term[n] \/ (r.term = term[n] /\ ~voted[n])
              /\ Adopt(n, r.term, TRUE) /\ Follow(n)
              /\ own' = [own EXCEPT ![n] = EndWork(n)]
              /\ votes' = votes \union {[term |-> r.term, from |-> n, to |-> r.from, work |-> work[n],
                                         about |-> about[n]]}
              /\ before' = [before EXCEPT ![n] = 0] /\ later' = [later EXCEPT ![n] = 0]
              /\ UNCHANGED <<longest, claimed, about, mine, refuse, work, runs, former, over, heartbeats, requests,
                             offers, ends>>

Heartbeat(n, claim) == [term |-> term[n], from |-> n, claim |-> claim, left |-> Lower]

(* What was said of work after some term. What has surely ended does not count, although a voter has not heard so. *)
Said(words, t) == Largest({0} \union {w.work : w \in {w \in words : w.about > t}})

Win(n, won) ==
  LET words == IF said[n] # None THEN {[work |-> said[n], about |-> term[n] - 1]}
               ELSE {[work |-> w.work, about |-> w.about] : w \in won \union {[work |-> work[n], about |-> about[n]]}}
      remainder == Said(words, IF over[n] = 0 THEN -1 ELSE over[n])
  IN /\ role[n] = "candidate" /\ IsQuorum({n} \union {v.from : v \in won})
     /\ \A v \in won : v.term = term[n] /\ v.to = n
     /\ role' = [role EXCEPT ![n] = "leader"]
     /\ said' = [said EXCEPT ![n] = None]
     /\ work' = [work EXCEPT ![n] = remainder]
     /\ claimed' = [claimed EXCEPT ![n] = Max(Claim, remainder)]
     /\ about' = Noted(about, n, term[n])
     /\ mine' = Noted(mine, n, IF remainder = 0 THEN "alone" ELSE "waiting")
     /\ before' = Noted(before, n, about[n])
     /\ later' = Noted(later, n, Said(words, Max(about[n], over[n])))
     /\ own' = [own EXCEPT ![n] = IF @ = "ending" THEN "succeeded" ELSE @]
     /\ heartbeats' = heartbeats \union {Heartbeat(n, Max(Claim, remainder))}
     /\ votes' = {v \in votes : v.to # n}
     /\ UNCHANGED <<term, voted, longest, refuse, leading, runs, former, over, requests, offers, ends>>

------------------------------------------------------------------------------
(* Heartbeats *)

(* A leader without work that gives its leadership away will start none in this term. *)
ClaimOf(n, left) == IF handover[n] # "none" /\ own[n] = "none" THEN left ELSE Max(Claim, left)

(* A leader that lost its lease does not get it back in the same term. *)
Listens(n, h) == Leads(n) /\ term[n] = h.term /\ (leased[n] => Contact(n) > 0)

(* Promise, remember the claim, and answer; the leader hears it, and extends its lease and its work, or not. *)
Hear(n, h, answered) ==
  LET to == h.from
      lease == Largest({t \in 0 .. Lower : IsQuorum({to} \union {m \in Node :
                 (IF m = n THEN Max(heard[to][m], h.left) ELSE heard[to][m]) >= t})})
      extends == answered /\ handover[to] = "none" /\ own[to] = "running" /\ lease > 0
      until == IF extends THEN lease + Grace ELSE 0
  IN /\ h.term >= term[n] /\ n # to /\ ~(Leads(n) /\ term[n] = h.term)
     /\ answered => Listens(to, h) /\ h.left > heard[to][n]
     /\ Adopt(n, h.term, h.term = term[n] /\ voted[n])
     /\ refuse' = [refuse EXCEPT ![n] = Max(@, Lower)]
     /\ longest' = [longest EXCEPT ![n] = Max(@, Max(refuse[n], Lower))]
     /\ claimed' = [claimed EXCEPT ![n] = h.claim]
     /\ about' = Noted(about, n, h.term)
     /\ mine' = Noted(mine, n, "no")
     /\ before' = [before EXCEPT ![n] = 0] /\ later' = [later EXCEPT ![n] = 0]
     /\ work' = [work EXCEPT ![n] = h.claim, ![to] = Max(@, until)]
     /\ runs' = [runs EXCEPT ![to] = Max(@, until)]
     /\ role' = [role EXCEPT ![n] = "follower"]
     /\ said' = [said EXCEPT ![n] = None]
     /\ heard' = [heard EXCEPT ![n] = [m \in Node |-> 0],
                               ![to] = IF answered THEN [@ EXCEPT ![n] = h.left] ELSE @]
     /\ leased' = [leased EXCEPT ![n] = FALSE, ![to] = @ \/ (answered /\ lease > 0)]
     /\ handover' = [handover EXCEPT ![n] = "none"]
     /\ own' = [own EXCEPT ![n] = IF @ \in {"running", "ending"} THEN "succeeded" ELSE @]
     /\ UNCHANGED <<former, over, messages>>

------------------------------------------------------------------------------
(* Leader work *)

StartWork(n) == /\ Leads(n) /\ handover[n] = "none" /\ own[n] = "none" /\ Lease(n) > 0
                /\ work[n] = 0
                /\ own' = [own EXCEPT ![n] = "running"]
                /\ runs' = [runs EXCEPT ![n] = Lease(n) + Grace]
                /\ work' = [work EXCEPT ![n] = Lease(n) + Grace]
                /\ mine' = Noted(mine, n, "alone")
                /\ UNCHANGED <<term, voted, longest, claimed, about, role, refuse, said, leading, ending, messages>>

(* All of it has ended, after it was told to. After a restart nobody waits for it: it runs out. *)
WorkEnds(n) == /\ own[n] \in {"ending", "succeeded"}
               /\ own' = [own EXCEPT ![n] = "none"]
               /\ runs' = [runs EXCEPT ![n] = 0]
               /\ work' = [work EXCEPT ![n] = IF own[n] = "ending" THEN 0 ELSE @]
               /\ UNCHANGED <<disk, role, refuse, said, leading, ending, messages>>

------------------------------------------------------------------------------
(* Transfer *)

BeginTransfer(n) == /\ Leads(n) /\ handover[n] = "none"
                    /\ handover' = [handover EXCEPT ![n] = "begun"]
                    /\ own' = [own EXCEPT ![n] = EndWork(n)]
                    /\ UNCHANGED <<disk, role, refuse, work, said, heard, leased, runs, ending, messages>>

Offer(n) == /\ Leads(n) /\ handover[n] = "begun"
            /\ own[n] = "none"
            /\ handover' = [handover EXCEPT ![n] = "offered"]
            /\ offers' = offers \union {[term |-> term[n], work |-> work[n]]}
            /\ heartbeats' = heartbeats \union {Heartbeat(n, work[n])}
            /\ UNCHANGED <<disk, role, refuse, work, said, heard, leased, own, runs, ending, requests, votes, ends>>

------------------------------------------------------------------------------
(* Endings *)

(* The leadership was the newest that the node knows of: it keeps no promise to it, and no claim of work that has
   ended. A leader that has waited because of it waits only for what came after. *)
IsLatest(n, e) == ~Leads(n) /\ e.term = about[n]
WaitedFor(n, e) == Leads(n) /\ mine[n] = "waiting" /\ e.term = before[n] /\ e.work

Note(n, e) ==
  /\ refuse' = [refuse EXCEPT ![n] = IF IsLatest(n, e) THEN 0 ELSE @]
  /\ work' = [work EXCEPT ![n] = IF IsLatest(n, e) /\ e.work THEN 0
                                 ELSE IF WaitedFor(n, e) THEN Min(@, later[n]) ELSE @]
  /\ claimed' = [claimed EXCEPT ![n] = IF IsLatest(n, e) /\ e.work THEN 0 ELSE @]
  /\ over' = [over EXCEPT ![n] = IF (IsLatest(n, e) /\ e.work) \/ WaitedFor(n, e) THEN Max(@, e.term) ELSE @]
  /\ UNCHANGED <<term, voted, longest, about, mine, role, said, leading, own, before, later, heartbeats, requests,
                 votes, offers>>

HearEnd(n, e) == /\ n # e.from /\ Note(n, e) /\ UNCHANGED <<runs, former, ends>>

(* Its supervisor holds the locks: no work of the process that was killed is left. *)
ScriptsEnd(n) ==
  LET e == [term |-> former[n], from |-> n, work |-> TRUE]
  IN /\ former[n] # 0 /\ own[n] = "none"
     /\ runs' = [runs EXCEPT ![n] = 0]
     /\ former' = [former EXCEPT ![n] = 0]
     /\ ends' = ends \union {e}
     /\ Note(n, e)

------------------------------------------------------------------------------

(* Whether a message may still change something; terms only grow. *)
Matters(t) == \E n \in Node : term[n] <= t

(* Time passes. A leader sends a heartbeat at each tick: one that it did not send is one that was lost. *)
Tick ==
  LET Left(counters) == [n \in Node |-> Less(counters[n])]
      Older == {[h EXCEPT !.left = @ - 1] : h \in {h \in heartbeats : h.left > 1 /\ Matters(h.term)}}
      Awaited == {v \in votes : role[v.to] = "candidate" /\ term[v.to] = v.term}
      Newest == {Heartbeat(n, ClaimOf(n, Less(work[n]))) : n \in {n \in Node : Leads(n)}}
  IN /\ refuse' = Left(refuse) /\ work' = Left(work) /\ runs' = Left(runs) /\ said' = Left(said)
     /\ heard' = [n \in Node |-> Left(heard[n])]
     /\ heartbeats' = Older \union Newest
     /\ requests' = {r \in requests : \E n \in Node : r.term > term[n] \/ (r.term = term[n] /\ ~voted[n])}
     /\ votes' = {[v EXCEPT !.work = Less(@)] : v \in Awaited}
     /\ offers' = {[o EXCEPT !.work = Less(@)] : o \in {o \in offers : Matters(o.term)}}
     /\ ends' = {e \in ends : \E n \in Node : about[n] = e.term \/ before[n] = e.term}
     /\ later' = Left(later)
     /\ UNCHANGED <<disk, role, leased, handover, own, former, over, before>>

Next == \/ Tick
        \/ \E n \in Node : \/ StepDown(n) \/ Restart(n) \/ Timeout(n)
                           \/ StartWork(n) \/ WorkEnds(n) \/ BeginTransfer(n) \/ Offer(n)
                           \/ ScriptsEnd(n)
                           \/ \E e \in ends : HearEnd(n, e)
                           \/ \E o \in offers : TakeOver(n, o)
                           \/ \E r \in requests : Vote(n, r)
                           \/ \E won \in SUBSET votes : Win(n, won)
                           \/ \E h \in heartbeats, answered \in BOOLEAN : Hear(n, h, answered)

Spec == Init /\ [][Next]_vars

------------------------------------------------------------------------------

Symmetry == Permutations(Node)

TypeOK == /\ term \in [Node -> 0 .. MaxTerm] /\ voted \in [Node -> BOOLEAN]
          /\ longest \in [Node -> {0, Lower}] /\ claimed \in [Node -> 0 .. Lower + Grace]
          /\ role \in [Node -> {"follower", "candidate", "leader"}]
          /\ refuse \in [Node -> 0 .. Lower] /\ work \in [Node -> 0 .. Lower + Grace]
          /\ runs \in [Node -> 0 .. Lower + Grace]
          /\ handover \in [Node -> {"none", "begun", "offered"}]
          /\ own \in [Node -> {"none", "running", "ending", "succeeded"}]
          /\ about \in [Node -> 0 .. MaxTerm] /\ mine \in [Node -> {"no", "waiting", "alone"}]
          /\ former \in [Node -> 0 .. MaxTerm] /\ over \in [Node -> 0 .. MaxTerm]
          /\ before \in [Node -> 0 .. MaxTerm] /\ later \in [Node -> 0 .. Lower + Grace]

OneLeader == \A n, m \in Node : Leads(n) /\ Leads(m) /\ n # m => term[n] # term[m]

(* At most one leader holds a lease at a time. *)
OneLease == \A n, m \in Node : Lease(n) > 0 /\ Lease(m) > 0 => n = m

(* Leader work of different nodes never overlaps. *)
ExclusiveWork == \A n, m \in Node : runs[n] > 0 /\ runs[m] > 0 => n = m

(* What a leader counts on is kept, over restarts too; but who has heard of the end of a later leader, whose election
   has ended all leases before it, need not keep it. *)
PromiseKept == \A n, m \in Node : Leads(n) /\ about[m] <= term[n] => refuse[m] >= heard[n][m]
==============================================================================
