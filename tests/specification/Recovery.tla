------------------------------ MODULE Recovery ------------------------------
(* A connected quorum can come to have a leader whom all of it follows, whatever has happened before. This is what
   pre-vote and check-quorum, put together carelessly, take from Raft: a node with a newer term whose questions nobody
   listens to, and whose term nobody learns.

   It begins in any state at all, whether or not Election can reach it, in which no two lead in a term: any terms, votes,
   promises and logs, any leaders, with and without a lease. All messages are lost, and but for a quorum all nodes. From
   then on that quorum is at its best: messages arrive, once, before anything else happens; writes are done; leaders
   send heartbeats; and when nothing is under way and nobody leads, promises run out, and a node whose log is as up to
   date as any asks for pre-votes. That is one way of those that Election allows, and whoever asks, it must lead to a
   leader within so many rounds. *)
EXTENDS Election

CONSTANTS FirstTerm,  \* terms are FirstTerm .. LastTerm in the beginning
          LastTerm,
          Rounds

VARIABLES up,         \* the quorum
          taken,      \* who has taken which message
          round

recovery == <<up, taken, round>>

(* What a node may be in the beginning; a leader has voted for itself. *)
May == [term : FirstTerm .. LastTerm, voted : Node \union {None}, log : 0 .. MaxLog, refuse : {0, Lower}, leads : {"no"}]
       \union [term : FirstTerm .. LastTerm, voted : {None}, log : 0 .. MaxLog, refuse : {0}, leads : {"new", "held"}]
Voted(n, is) == IF is.leads = "no" THEN is.voted ELSE n
(* One that is lost is always the same. *)
Lost == [term |-> FirstTerm, voted |-> None, log |-> 0, refuse |-> 0, leads |-> "no"]

RecoveryInit ==
  /\ up \in {q \in SUBSET Node : IsQuorum(q)}
  /\ \E those \in [up -> May] : LET is == [n \in Node |-> IF n \in up THEN those[n] ELSE Lost] IN
       /\ \A n, m \in up : is[n].leads # "no" /\ is[m].leads # "no" /\ n # m => is[n].term # is[m].term
       /\ disk = [n \in Node |-> [term |-> is[n].term, voted |-> Voted(n, is[n]), promised |-> TRUE]]
       /\ log = [n \in Node |-> is[n].log]
       /\ refuse = [n \in Node |-> is[n].refuse]
       /\ role = [n \in Node |-> IF is[n].leads = "no" THEN "follower" ELSE "leader"]
       /\ heard = [n \in Node |-> [m \in Node |-> IF n # m /\ is[n].leads = "held" THEN Counted ELSE None]]
       /\ since = [n \in Node |-> IF is[n].leads = "no" THEN 0 ELSE Lower]
  /\ unwritten = [n \in Node |-> <<>>]
  /\ asks = [n \in Node |-> FALSE] /\ granted = [n \in Node |-> {}] /\ chosen = [n \in Node |-> FALSE]
  /\ offered = [n \in Node |-> FALSE]
  /\ messages = {} /\ taken = {} /\ round = 0

------------------------------------------------------------------------------

Leaders == {n \in up : Leads(n)}
Unwritten == {n \in up : unwritten[n] # <<>>}
IsFor(n, m) == m.from # n /\ (m.kind \in {"PreVoteRequest", "VoteRequest", "AppendEntriesRequest"} \/ m.to = n)
Waiting == {t \in messages \X up : t \notin taken /\ IsFor(t[2], t[1]) /\ Arrives(t[1])}
Settled == \E n \in Leaders : \A m \in up \ {n} : role[m] = "follower" /\ Term(m) = Term(n)

Write == LET n == CHOOSE n \in Unwritten : TRUE IN Written(n, Len(unwritten[n])) /\ UNCHANGED recovery
HandlePlainly(n, m) == CASE m.kind = "PreVoteResponse" -> HandlePreVoteResponse(n, m, TRUE)
                         [] m.kind = "VoteResponse" -> HandleVoteResponse(n, m, TRUE)
                         [] OTHER -> Handle(n, m)
Take == LET t == CHOOSE t \in Waiting : TRUE
        IN HandlePlainly(t[2], t[1]) /\ taken' = taken \union {t} /\ UNCHANGED <<up, round>>
EndLeader == \E n \in Leaders : MustStepDown(n) /\ StepDown(n) /\ UNCHANGED recovery

NobodyAsks == asks' = [n \in Node |-> FALSE] /\ granted' = [n \in Node |-> {}] /\ chosen' = [n \in Node |-> FALSE]
Beats == /\ messages' = {[kind |-> "AppendEntriesRequest", from |-> n, term |-> Term(n), number |-> 0,
                          left |-> Counted] : n \in Leaders}
         /\ NobodyAsks
         /\ UNCHANGED <<disk, unwritten, log, role, refuse, leading>>
Asks == \E n \in {n \in up : \A m \in up : log[n] >= log[m]} :
          /\ role' = [role EXCEPT ![n] = "pre-candidate"]
          /\ asks' = [m \in Node |-> m = n]
          /\ granted' = [m \in Node |-> IF m = n THEN {n} ELSE {}]
          /\ chosen' = [m \in Node |-> FALSE]
          /\ refuse' = [m \in Node |-> 0]
          /\ messages' = {[kind |-> "PreVoteRequest", from |-> n, term |-> Term(n) + 1, log |-> log[n]]}
          /\ UNCHANGED <<disk, unwritten, log, leading>>

NextRound == /\ round < Rounds /\ ~Settled
             /\ IF Leaders # {} THEN Beats ELSE Asks
             /\ taken' = {} /\ round' = round + 1 /\ UNCHANGED up

RecoveryNext == IF Unwritten # {} THEN Write
                ELSE IF \E n \in Leaders : MustStepDown(n) THEN EndLeader
                ELSE IF Waiting # {} THEN Take
                ELSE NextRound

RecoverySpec == RecoveryInit /\ [][RecoveryNext]_<<vars, recovery>>

IsOver == round = Rounds /\ Unwritten = {} /\ Waiting = {} /\ \A n \in Leaders : ~MustStepDown(n)
HasLeader == IsOver => Settled
==============================================================================
