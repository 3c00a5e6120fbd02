---------------------------- MODULE TraceElection ----------------------------
(* Whether a recorded trace is a behaviour of Election: each line must be a step of it, from what the lines before have
   led to, and the node must be afterwards what the line says. tests/specification/traces.py writes the module
   TraceData from the recorded lines; times are in microseconds there.

   A line is taken in stages: time passes on the clock of its node, the node acts, and sends what a leader sends. *)
EXTENDS TraceData, Integers  \* which extends Election

VARIABLES line,   \* the next line
          stage,  \* "time", "act" or "send"
          late    \* heartbeats whose promise has run out: for each leader and term, the largest number of them

Of == TraceLines[line]
Node1 == Of.node

TraceInit == /\ Init /\ log = [n \in Node |-> 0] /\ line = 1 /\ stage = "time" /\ late = {}

(* Nothing can be counted on any more that a leader has sent long ago; so it need not be kept. *)
IsLate(m) == \/ m.kind = "AppendEntriesRequest" /\ m.from = Node1 /\ m.left <= Of.passed
             \/ m.kind = "AppendEntriesResponse" /\ m.to = Node1 /\ m.number # None /\ m.left <= Of.passed
NowLate == {[from |-> m.from, term |-> m.term, number |-> m.number] :
              m \in {m \in messages : m.kind = "AppendEntriesRequest" /\ IsLate(m)}}
Newest(all) == {o \in all : \A p \in all : p.from = o.from /\ p.term = o.term => p.number <= o.number}
WasSent(m) == m.number # None /\ \E o \in late : o.from = m.from /\ o.term = m.term /\ m.number <= o.number

Time == /\ stage = "time" /\ line <= Len(TraceLines)
        /\ PrintT(<<"line", line>>)
        /\ late' = Newest(late \union NowLate)
        /\ refuse' = [refuse EXCEPT ![Node1] = Less(@, Of.passed)]
        /\ since' = [since EXCEPT ![Node1] = Less(@, Of.passed)]
        /\ heard' = [heard EXCEPT ![Node1] = [m \in Node |-> Less(@[m], Of.passed)]]
        /\ messages' = {IF m.kind \in {"AppendEntriesRequest", "AppendEntriesResponse"}
                           /\ (IF m.kind = "AppendEntriesRequest" THEN m.from ELSE m.to) = Node1
                        THEN [m EXCEPT !.left = Less(@, Of.passed)] ELSE m : m \in {m \in messages : ~IsLate(m)}}
        /\ log' = [log EXCEPT ![Node1] = Of.log]
        /\ stage' = "act"
        /\ UNCHANGED <<disk, unwritten, role, asking, offered, line>>

------------------------------------------------------------------------------

(* What came must have been sent. *)
Received == LET m == Of.message IN
  CASE m.kind = "AppendEntriesRequest" ->
         \/ \E h \in messages : /\ h.kind = m.kind /\ h.from = m.from /\ h.term = m.term /\ h.number = m.number
                                /\ Arrives(h) /\ Handle(Node1, h)
         \/ WasSent(m) /\ Handle(Node1, m)
    [] m.kind = "AppendEntriesResponse" ->
         \/ \E r \in messages : /\ r.kind = m.kind /\ r.from = m.from /\ r.to = m.to /\ r.term = m.term
                                /\ r.number = m.number /\ Arrives(r) /\ Handle(Node1, r)
         \/ WasSent([m EXCEPT !.from = m.to]) /\ ~MustStepDown(Node1) /\ Nothing
    [] m.kind = "InstallSnapshotRequest" ->  \* tells a term, and takes no promise
         IF m.term > Term(Node1) \/ (m.term = Term(Node1) /\ ~Leads(Node1)) THEN BecomeFollower(Node1, m.term)
         ELSE Nothing
    [] m.kind = "InstallSnapshotResponse" ->
         IF m.term > Term(Node1) THEN BecomeFollower(Node1, m.term) ELSE Nothing
    [] OTHER -> Arrives(m) /\ Handle(Node1, m)

Acts == CASE Of.action = "Handle" -> Received
          [] Of.action = "StartPreVote" -> StartPreVote(Node1)
          [] Of.action = "GiveUp" -> GiveUp(Node1)
          [] Of.action = "StepDown" -> StepDown(Node1)
          [] Of.action = "Written" -> \E many \in 0 .. Len(unwritten[Node1]) :
                                        Written(Node1, many) /\ disk'[Node1] = Of.on_disk
          [] Of.action = "Restart" -> \E many \in 0 .. Len(unwritten[Node1]) :
                                        Restart(Node1, many) /\ disk'[Node1] = Of.on_disk
          [] OTHER -> ~MustStepDown(Node1) /\ Nothing

(* What the node says it is, and wants to send. *)
Near(a, b) == a - b <= Slack /\ b - a <= Slack
After(n, of) == /\ Term(n)' = of.term /\ Hard(n)'.voted = of.voted
                /\ role'[n] = of.role /\ asks'[n] = of.asks
                /\ of.asks => granted'[n] = of.granted
                /\ of.role = "candidate" => chosen'[n] = of.chosen
                /\ Near(refuse'[n], of.refuse)
                /\ of.offers = {} => of.lease <= Lease(n)' + Slack
                /\ of.sent \subseteq messages'
                /\ \A a \in of.answers : \E m \in messages' : /\ m.kind = a.kind /\ m.from = a.from /\ m.to = a.to
                                                              /\ m.term = a.term /\ m.number = a.number
More == Of.beats # {} \/ Of.offers # {}

Act == /\ stage = "act" /\ Acts
       /\ \E n \in {Node1}, of \in {Of} : After(n, of)
       /\ stage' = IF More THEN "send" ELSE "time"
       /\ line' = IF More THEN line ELSE line + 1
       /\ UNCHANGED late

Sends == /\ stage = "send"
         /\ Leads(Node1) /\ ~MustStepDown(Node1)
         /\ Send([kind : {"AppendEntriesRequest"}, from : {Node1}, term : {Term(Node1)}, number : Of.beats,
                  left : {Counted}]
                 \union [kind : {"TimeoutNow"}, from : {Node1}, to : Of.offers, term : {Term(Node1)}])
         /\ offered' = [offered EXCEPT ![Node1] = @ \/ Of.offers # {}]
         /\ stage' = "time" /\ line' = line + 1
         /\ UNCHANGED <<disk, unwritten, log, role, asking, refuse, heard, since, late>>
         /\ \E n \in {Node1}, of \in {Of} : of.lease <= Lease(n)' + Slack

TraceNext == Time \/ Act \/ Sends
TraceSpec == TraceInit /\ [][TraceNext]_<<vars, line, stage, late>>

(* The end is reached by a trace that is a behaviour: TLC tells that this does not hold. *)
NotAccepted == line <= Len(TraceLines)
==============================================================================
